"""Requests that are no model calls (files, batches, models...): they go to one provider as they are, with its
credentials, and are not repeated."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urlsplit

from resilient_llm.drive.core import ProviderPool
from resilient_llm.errors import FaultKind
from resilient_llm.mount.answers import refused
from resilient_llm.mount.asked import spoken_by
from resilient_llm.mount.families import family_of
from resilient_llm.mount.parameters import CREDENTIALS
from resilient_llm.mount.paths import OPENAI, Sdk, before_version, below_version
from resilient_llm.providers.base import USER_AGENT, HttpProvider
from resilient_llm.providers.openai import OF_DEPLOYMENTS, AzureOpenAI
from resilient_llm.wire.kit import fields as f

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
_VERSION = "api-version"
"""The parameter that says which version of Azure's API is meant; it is the provider's own."""
_DEPLOYMENT = re.compile(r"/deployments/[^/]+(?=/)")
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
    if sdk is OPENAI:
        path = _deployed(path, request, provider)
    if sdk.name == "anthropic":
        path = f"/v1{path}"
    address = provider.address(path)
    if sdk.name == "google-genai" and given.startswith(f"{_UPLOAD}/"):
        address = before_version(address, _UPLOAD)
    query = [
        (name, value)
        for name, value in request.url.params.multi_items()
        if name.lower() not in CREDENTIALS and name != _VERSION
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


def _deployed(path: str, request: Any, provider: HttpProvider) -> str:
    """The path with the name of a deployment where the provider's API wants one: Azure's dated API, which its SDK takes
    for granted.  Everywhere else the body says which model is meant."""
    found = _DEPLOYMENT.match(path)
    if not (isinstance(provider, AzureOpenAI) and provider.dated):
        return path[found.end() :] if found else path
    model = _model_in(request) if found is None and path in OF_DEPLOYMENTS else None
    return f"/deployments/{quote(model, safe='')}{path}" if model else path


def _model_in(request: Any) -> str | None:
    """The model that a JSON body names."""
    if "json" not in request.headers.get("content-type", ""):
        return None
    try:
        return f.as_text(f.as_object(json.loads(request.content)).get("model")) or None
    except (ValueError, family_of(request).module.RequestNotRead):
        return None


def returned(request: Any, answer: Any) -> Any:
    """The provider's answer, as it came."""
    module = family_of(request).module
    return module.Response(answer.status_code, headers=answer.headers, stream=answer.stream)
