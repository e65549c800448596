"""How a provider is reached: through which proxy, whom TLS trusts there, and with which certificate of our own.

Files are read when a provider is made, to tell at once what is wrong with them, and again by the engines when they have
changed.
"""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast
from urllib.parse import SplitResult, unquote, urlsplit

from resilient_llm.errors import ConfigurationError

if TYPE_CHECKING:
    from ssl import SSLContext

PROXIES: Final = ("http", "socks5", "socks5h")
"""Schemes of proxies."""
_PORTS: Final = {"http": 80, "socks5": 1080, "socks5h": 1080}
_SEVERAL: Final = 3  # a certificate, its key, and the key's password
_HASHED: Final = re.compile(r"[0-9a-f]{8}\.r?\d+")


class ProxyUrl(str):
    """The URL of a proxy, whose repr has no name and no password."""

    __slots__ = ()

    @property
    def shown(self) -> str:
        """As it may be shown."""
        parts = urlsplit(self)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"

    def __repr__(self) -> str:
        return repr(self.shown)


@dataclass(frozen=True, slots=True, repr=False)
class Network:
    """What a provider says of the way to it.

    ``proxy``: a URL; ``False``: none; ``None``: the one that the environment names.  ``verify``: ``True`` for the usual
    authorities, ``False`` for no verification, a path to others, or a context that decides all of it.  ``cert``: the
    files of a certificate and its key, and the key's password; empty: none.
    """

    proxy: ProxyUrl | Literal[False] | None = None
    verify: bool | str | SSLContext = True
    cert: tuple[str, ...] = ()

    @property
    def socks(self) -> bool:
        """Whether the proxy is one for SOCKS."""
        return bool(self.proxy) and str(self.proxy).startswith("socks")

    @property
    def through(self) -> str:
        """The proxy, as it may be shown behind an address; empty without one."""
        return f" through {self.proxy.shown}" if self.proxy else ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files it names."""
        return (*((self.verify,) if isinstance(self.verify, str) else ()), *self.cert[:2])

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown: passwords, and what they travel as."""
        password = unquote(urlsplit(self.proxy).password or "") if self.proxy else ""
        if not self.proxy or not password:
            return self.cert[2:]
        user = unquote(urlsplit(self.proxy).username or "")
        return (password, b64encode(f"{user}:{password}".encode()).decode(), *self.cert[2:])

    @property
    def own_tls(self) -> bool:
        """Whether it says anything of TLS."""
        return self.verify is not True or bool(self.cert)

    def context(self, roots: Callable[[], SSLContext]) -> SSLContext:
        """A TLS context; ``roots`` makes one that trusts the usual authorities.  Raises ``ConfigurationError``."""
        import ssl  # noqa: PLC0415 - only those pay for it who say something of TLS

        if isinstance(self.verify, str):
            made = _trusting(self.verify)
        elif isinstance(self.verify, bool):
            made = roots() if self.verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if not self.verify:
                made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        else:
            return self.verify
        if self.cert:
            _load(made, self.cert)
        return made

    def __repr__(self) -> str:
        cert = self.cert[:2]
        return f"<Network proxy={self.proxy!r} verify={self.verify!r} cert={cert[0] if len(cert) == 1 else cert!r}>"


USUAL: Final = Network()
"""Of a provider that says nothing of it."""


def network_of(proxy: object, verify: object, cert: object) -> Network:
    """These options, checked.  Raises ``ConfigurationError``, which shows no password."""
    if proxy is None and verify is True and cert is None:
        return USUAL
    import ssl  # noqa: PLC0415

    made = Network(_checked_proxy(proxy), _checked_verify(verify), _checked_cert(cert))
    if made.cert and isinstance(verify, ssl.SSLContext):
        raise ConfigurationError("cert= beside a context in verify=: load the certificate into the context")
    if made.own_tls:
        made.context(lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    return made


def proxy_parts(url: str) -> tuple[SplitResult, int]:
    """A proxy's URL and its port.  Raises ``ValueError`` if it names none."""
    parts = urlsplit(url)
    if parts.scheme not in PROXIES or not parts.hostname:
        raise ValueError
    return parts, parts.port or _PORTS[parts.scheme]


def _checked_proxy(proxy: object) -> ProxyUrl | Literal[False] | None:
    if proxy is None or proxy is False:
        return proxy
    if not isinstance(proxy, str):
        raise ConfigurationError(f"proxy must be a URL, False or None, not a {type(proxy).__name__}")
    known = ", ".join(f"{one}://" for one in PROXIES)
    try:
        parts, _ = proxy_parts(proxy)
    except ValueError:
        told = ProxyUrl(proxy).shown if re.match(r"[a-z0-9+.-]+://[^/]", proxy) else "one that names no scheme and host"
        more = "; what goes through it is encrypted all the same" if told.startswith("https") else ""
        raise ConfigurationError(f"proxy must begin with one of {known} and name a host, not be {told}{more}") from None
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError("proxy must have nothing behind its host and port")
    return ProxyUrl(proxy)


def _checked_verify(verify: object) -> bool | str | SSLContext:
    import ssl  # noqa: PLC0415

    if isinstance(verify, bool | ssl.SSLContext):
        return verify
    path = _path(verify)
    if path is None:
        raise ConfigurationError(
            "verify must be True, False, a file or directory of certificates, or an ssl.SSLContext, "
            f"not {verify if verify in ('', None) else f'a {type(verify).__name__}'!r}"
        )
    return path


def _checked_cert(cert: object) -> tuple[str, ...]:
    if cert is None:
        return ()
    given = cast("Sequence[object]", cert) if isinstance(cert, list | tuple) else (cert,)
    found = tuple(path for path in map(_path, given) if path is not None)
    if not 1 <= len(found) == len(given) <= _SEVERAL:
        raise ConfigurationError("cert must be a file, or (file, file of its key), or (file, its key, password)")
    for one in found[:2]:
        if not os.path.isfile(one):
            raise ConfigurationError(f"cert={one!r}: there is no such file")
    return found


def _path(value: object) -> str | None:
    """A path that is not empty; ``None``: it is none."""
    if isinstance(value, os.PathLike):
        value = cast("os.PathLike[str]", value).__fspath__()
    return value if isinstance(value, str) and value else None


def _trusting(path: str) -> SSLContext:
    """A context that trusts the authorities in a file or directory alone."""
    import ssl  # noqa: PLC0415

    try:
        if os.path.isdir(path):
            if not any(_HASHED.fullmatch(name) for name in os.listdir(path)):
                told = "none of its files is named by the hash of a certificate; run: openssl rehash"
                raise ConfigurationError(f"verify={path!r}: {told}")
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ConfigurationError(f"verify={path!r}: it holds no certificate in PEM ({_why(error)})") from error
    except OSError as error:
        raise ConfigurationError(f"verify={path!r}: {error.strerror or error}") from error


def _load(context: SSLContext, cert: tuple[str, ...]) -> None:
    """Have a context show our certificate."""
    import ssl  # noqa: PLC0415

    file, key = cert[0], cert[-1] if len(cert) == 1 else cert[1]
    asked: list[bool] = []

    def password() -> str:  # else OpenSSL would ask the terminal
        asked.append(True)
        return cert[2] if len(cert) == _SEVERAL else ""

    told = f"cert={file!r}" if key == file else f"cert=({file!r}, {key!r})"
    try:
        context.load_cert_chain(file, key, password)
    except ssl.SSLError as error:
        if asked:
            why = "does not open the key" if len(cert) == _SEVERAL else "is needed for the key, as a third value"
            raise ConfigurationError(f"{told}: the password {why}") from error
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"{told}: the key does not belong to the certificate") from error
        what = "there is no certificate with its key" if key == file else "one of them is no certificate or key"
        raise ConfigurationError(f"{told}: {what} in PEM ({_why(error)})") from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{told}: {getattr(error, 'strerror', None) or error}") from error


def _why(error: OSError) -> str:
    return str(getattr(error, "reason", None) or error.strerror or error)
