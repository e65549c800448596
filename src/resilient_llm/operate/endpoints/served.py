"""The endpoints as an ASGI application, as a WSGI application, and as a function for everything else."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias, final
from urllib.parse import parse_qs

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.endpoints import page
from resilient_llm.operate.endpoints.snapshot import Snapshot, SupportsStatus, take
from resilient_llm.operate.endpoints.statuses import HttpStatus
from resilient_llm.operate.plain import Plain

Scope: TypeAlias = MutableMapping[str, object]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, object]]]
Send: TypeAlias = Callable[[MutableMapping[str, object]], Awaitable[None]]
StartResponse: TypeAlias = Callable[[str, list[tuple[str, str]]], object]

_SAFE: Final = (
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
)
_JSON: Final = "application/json"
_METHODS: Final = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer; ``headers`` have lower-case names."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@final
class Endpoints:
    """Health endpoints of one client.

    ``GET`` ``/livez``: 200 as long as this process answers at all.  ``/readyz``: 200 if a provider could be asked, else
    503 with ``retry-after`` where it is known; ``?route=`` asks about one route.  ``/snapshot``: all that is known, as
    JSON.  ``/``: the same for people, kept up to date by itself.  Paths are relative to where it is mounted.

    ``objectives``, ``anomalies``: an ``Objectives`` and an ``Anomalies``, or any object with ``status()``, which is
    shown too; ``None``: there is none.

    Whoever can reach these paths learns which providers and models you use and how they fare, never a key, a prompt or
    an answer: keep them on an internal port or behind your own authentication.
    """

    def __init__(
        self,
        client: ResilientClient | AsyncResilientClient,
        *,
        objectives: SupportsStatus | None = None,
        anomalies: SupportsStatus | None = None,
    ) -> None:
        """Raises ``ConfigurationError`` for a client, objectives or anomalies that are none; sends nothing."""
        if not isinstance(client, ResilientClient | AsyncResilientClient):
            raise ConfigurationError(f"endpoints need a ResilientClient or AsyncResilientClient, not {client!r}")
        for name, owner in (("objectives", objectives), ("anomalies", anomalies)):
            if owner is not None and not callable(getattr(owner, "status", None)):
                raise ConfigurationError(f"{name} must have a status() method; {owner!r} has none")
        self._client = client
        self._objectives, self._anomalies = objectives, anomalies

    def answer(self, path: str, *, method: str = "GET", query: Mapping[str, str] | None = None) -> Response:
        """The answer to one request, for frameworks that mount neither ASGI nor WSGI applications.

        ``path`` as in the class, ``query`` its decoded parameters.  404 for another path or an unknown route, 405 for
        another method.  Does not block for more than a few hundred microseconds, and raises nothing of its own.
        """
        if method not in _METHODS:
            return _text(405, "only GET and HEAD", ("allow", ", ".join(_METHODS)))
        asked, path = query or {}, path.rstrip("/")
        if path == "/livez":
            return _text(200, "alive")
        if path == "/readyz":
            return self._ready(asked.get("route"))
        if path == "/snapshot":
            return _json(200, self._snapshot().plain())
        if path:
            return _text(404, "there are /livez, /readyz, /snapshot and /")
        if asked.get("part") == "main":
            return _response(200, "text/html; charset=utf-8", page.main(self._snapshot()).encode())
        policy = ("content-security-policy", page.POLICY)
        return _response(200, "text/html; charset=utf-8", page.whole(self._snapshot()).encode(), policy)

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI 3 application: ``app.mount("/llm", endpoints.asgi)``, or ``uvicorn module:endpoints.asgi``."""
        kind = scope["type"]
        if kind == "lifespan":
            await _lifespan(receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif kind == "http":
            found = self._to_asgi(scope)
            headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in _with_length(found)]
            body = b"" if scope["method"] == "HEAD" else found.body
            await send({"type": "http.response.start", "status": found.status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def wsgi(self, environ: Mapping[str, object], start_response: StartResponse) -> Iterable[bytes]:
        """A WSGI application: ``DispatcherMiddleware(app.wsgi_app, {"/llm": endpoints.wsgi})``, or by itself."""
        method = str(environ.get("REQUEST_METHOD", "GET"))
        query = _parameters(str(environ.get("QUERY_STRING", "")))
        found = self.answer(str(environ.get("PATH_INFO", "/")), method=method, query=query)
        start_response(f"{found.status} {HTTPStatus(found.status).phrase}", _with_length(found))
        return [b"" if method == "HEAD" else found.body]

    def _to_asgi(self, scope: Scope) -> Response:
        # Frameworks differ in whether ``path`` still has the part in front of the mount, which is in ``root_path``.
        path, root = str(scope["path"]), str(scope.get("root_path") or "")
        if root and (path == root or path.startswith(f"{root}/")):
            path = path[len(root) :]
        given = scope.get("query_string")
        query = _parameters(given.decode("latin-1") if isinstance(given, bytes) else "")
        return self.answer(path, method=str(scope["method"]), query=query)

    def _snapshot(self) -> Snapshot:
        return take(self._client, self._objectives, self._anomalies)

    def _ready(self, route: str | None) -> Response:
        seen = take(self._client)
        if route is not None and route not in seen.routes:
            return _text(404, f"there is no such route; there are {', '.join(seen.routes)}")
        found = HttpStatus(200, {}) if seen.ready(route) else _not_ready(seen, route)
        body: dict[str, Plain] = {"ready": found.status == 200, "admissible": list(seen.admissible(route))}
        return _json(found.status, body, *found.headers.items())


def _not_ready(seen: Snapshot, route: str | None) -> HttpStatus:
    wait = seen.opens_in(route)
    return HttpStatus(503, {} if wait is None or seen.closed else {"retry-after": str(max(1, round(wait + 0.5)))})


def _response(status: int, kind: str, body: bytes, *headers: tuple[str, str]) -> Response:
    return Response(status, (("content-type", kind), *_SAFE, *headers), body)


def _text(status: int, text: str, *headers: tuple[str, str]) -> Response:
    return _response(status, "text/plain; charset=utf-8", f"{text}\n".encode(), *headers)


def _json(status: int, value: dict[str, Plain], *headers: tuple[str, str]) -> Response:
    return _response(status, _JSON, json.dumps(value, allow_nan=False).encode(), *headers)


def _with_length(found: Response) -> list[tuple[str, str]]:
    return [*found.headers, ("content-length", str(len(found.body)))]


def _parameters(query: str) -> dict[str, str]:
    try:
        return {name: values[-1] for name, values in parse_qs(query, max_num_fields=20).items()}
    except ValueError:
        return {}


async def _lifespan(receive: Receive, send: Send) -> None:
    """Served by itself, it has nothing to start or to stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
