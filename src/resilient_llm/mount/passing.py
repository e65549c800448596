"""Requests that are no model calls (files, batches, models...): they go to one provider as they are, with its
credentials, and are not repeated."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from resilient_llm.drive.core import ProviderPool
from resilient_llm.errors import FaultKind
from resilient_llm.mount.answers import refused
from resilient_llm.mount.asked import spoken_by
from resilient_llm.mount.families import family_of
from resilient_llm.mount.parameters import CREDENTIALS
from resilient_llm.mount.paths import Sdk, before_version, below_version
from resilient_llm.providers.base import USER_AGENT, HttpProvider

_KEPT = frozenset(
    {
        *("accept", "accept-encoding", "content-encoding", "content-length", "content-type", "transfer-encoding"),
        *("range", "if-none-match", "if-modified-since"),
    }
)
"""Headers of the caller that say nothing about the caller."""
_OF_UPLOADS = "x-goog-upload-"
"""How the headers begin that say which piece of a file google-genai sends."""
_UPLOAD = "/upload"
"""How the paths begin to which it sends them: before the version of the API."""
_OF_VENDOR = frozenset(
    {"anthropic-beta", "anthropic-user-profile-id", "anthropic-version", "openai-beta", "idempotency-key"}
)
"""Headers that the SDK's own vendor understands."""


def provider_for(pool: ProviderPool, sdk: Sdk) -> HttpProvider | None:
    """The first provider of the SDK's vendor, or else the first of its wire."""
    there = [target for target in pool.pool.targets() if isinstance(target, HttpProvider)]
    own = [target for target in there if target.vendor in sdk.vendors]
    return next(iter(own or [target for target in there if target.wire in sdk.wires]), None)


def nobody(request: Any, sdk: Sdk) -> Any:
    """The answer to a request that no provider of this client can take."""
    message = (
        f"{request.method} {request.url.path} is no model call, so it is passed on to a provider that speaks as "
        f"{sdk.name} does; the client has none"
    )
    return family_of(request).whole(*refused(spoken_by(sdk, sdk.wires[0]), 501, FaultKind.UNSUPPORTED, message))


def addressed(request: Any, sdk: Sdk, provider: HttpProvider, key: str | None) -> Any:
    """The same request, to this provider and with its credential alone."""
    given: str = request.url.raw_path.partition(b"?")[0].decode("ascii")  # %2F within a name stays one
    path = given if sdk.name == "cohere" else below_version(given)
    if sdk.name == "anthropic":
        path = f"/v1{path}"
    address = provider.address(path)
    if sdk.name == "google-genai" and given.startswith(f"{_UPLOAD}/"):
        address = before_version(address, _UPLOAD)
    query = [
        (name, value)
        for name, value in request.url.params.multi_items()
        if name.lower() not in CREDENTIALS and f"?{name}=" not in address
    ]
    module = family_of(request).module
    url = module.URL(address)
    url = url.copy_with(params=[*url.params.multi_items(), *query]) if query else url
    headers = {name: value for name, value in request.headers.items() if name in _KEPT or name.startswith(_OF_UPLOADS)}
    if provider.vendor in sdk.vendors:
        headers |= {name: value for name, value in request.headers.items() if name in _OF_VENDOR}
    headers |= {"host": urlsplit(str(url)).netloc, "user-agent": USER_AGENT}
    if key is not None:
        headers |= dict(provider.auth_headers(key))
    headers |= dict(provider.headers)
    timeout = request.extensions.get("timeout")
    extensions = {} if timeout is None else {"timeout": timeout}
    return module.Request(request.method, url, headers=headers, stream=request.stream, extensions=extensions)


def returned(request: Any, answer: Any) -> Any:
    """The provider's answer, as it came."""
    module = family_of(request).module
    return module.Response(answer.status_code, headers=answer.headers, stream=answer.stream)
