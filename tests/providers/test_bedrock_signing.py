"""Requests to Bedrock without an API key carry a signature that AWS's rules, followed by hand, confirm."""

from __future__ import annotations

import hashlib
import hmac
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from resilient_llm import ResilientClient
from resilient_llm.errors import ConfigurationError
from resilient_llm.providers import Bedrock
from resilient_llm.testing import LoopbackLLM, ReceivedRequest, Reply

pytest.importorskip("botocore")

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
MODEL = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("fine")) as server:
        yield server


def signature(request: ReceivedRequest, secret: str) -> str:
    """What the signature of this request has to be."""
    told = dict(
        part.split("=", 1) for part in request.headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", ")
    )
    scope = told["Credential"].split("/", 1)[1]
    names = told["SignedHeaders"].split(";")
    path = "/".join(quote(segment, safe="-_.~") for segment in request.path.split("/"))
    lines = [request.method, path, "", *(f"{name}:{request.headers[name]}" for name in names)]
    lines += ["", told["SignedHeaders"], hashlib.sha256(request.body).hexdigest()]
    canonical = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    to_sign = "\n".join(("AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, canonical))
    key = ("AWS4" + secret).encode()
    for piece in scope.split("/"):
        key = hmac.new(key, piece.encode(), hashlib.sha256).digest()
    return hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()


def test_the_signature_is_the_one_aws_computes(server: LoopbackLLM) -> None:
    provider = Bedrock(MODEL, region="eu-west-1", base_url=server.url)
    with ResilientClient([provider]) as client:
        assert client.chat("Grüße").text == "fine"
        with client.stream("again") as stream:
            assert "".join(stream.text_deltas()) == "fine"
    for request in server.requests:
        told = request.headers["authorization"]
        assert told.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert "/eu-west-1/bedrock/aws4_request" in told
        assert {"host", "content-type", "x-amz-date", "x-amz-security-token"} <= set(
            told.split("SignedHeaders=")[1].split(",")[0].split(";")
        )
        assert told.endswith(f"Signature={signature(request, SECRET)}")
        assert SECRET not in repr(request.headers)


def test_providers_with_one_set_of_credentials_share_an_account() -> None:
    one, two = Bedrock("a", region="eu-west-1"), Bedrock("b", region="eu-west-1")
    assert one.account == two.account is not None
    assert Bedrock("a", region="eu-west-1", account="mine").account == "mine"
    assert "Signer for eu-west-1" in repr(one._signer)


def test_an_api_key_needs_no_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    assert Bedrock(MODEL, region="eu-west-1", api_key="k").id
    with pytest.raises(ConfigurationError, match=r"resilient-llm\[bedrock\]"):
        Bedrock(MODEL, region="eu-west-1")


def test_without_any_credentials_the_caller_is_told(monkeypatch: pytest.MonkeyPatch, server: LoopbackLLM) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    client = ResilientClient([Bedrock(MODEL, region="eu-west-1", base_url=server.url)])
    with client, pytest.raises(ConfigurationError, match="no AWS credentials"):
        client.chat("Hello")
    assert not server.requests
