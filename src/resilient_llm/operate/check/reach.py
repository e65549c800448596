"""The lower two levels of a probe: is somebody there, and do they speak HTTP?"""

from __future__ import annotations

import socket
import ssl
import time
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.request import getproxies, proxy_bypass

import httpx

from resilient_llm.errors import FaultKind
from resilient_llm.providers.base import HttpProvider
from resilient_llm.wire import classify_exception


class Found(NamedTuple):
    """What became of an attempt: ``ok`` ``None`` means that it was not made."""

    ok: bool | None
    detail: str


def connect(provider: HttpProvider, timeout: float) -> Found:
    """Whether TCP, and TLS where the URL says so, can be set up within ``timeout`` seconds."""
    host, port, secure = provider.host or "", provider.port or 443, provider.base_url.startswith("https")
    if behind_proxy(provider):
        return Found(None, "reached through a proxy, which is asked below")
    ends = time.monotonic() + timeout
    try:
        with socket.create_connection((host, port), timeout) as plain:
            if not secure:
                return Found(True, f"TCP to {host}:{port}")
            plain.settimeout(max(ends - time.monotonic(), 0.1))
            with _context(provider).wrap_socket(plain, server_hostname=host) as tls:
                return Found(True, f"{tls.version()} to {host}:{port}, certificate until {_expiry(tls)}")
    except socket.gaierror:
        return Found(False, f"the name {host} is not known")
    except ssl.SSLCertVerificationError as error:
        return Found(False, f"its certificate is not accepted: {error.verify_message}")
    except TimeoutError:
        return Found(False, f"no connection to {host}:{port} within {timeout:g} s")
    except OSError as error:
        return Found(False, f"no connection to {host}:{port}: {error.strerror or type(error).__name__}")


def behind_proxy(provider: HttpProvider) -> bool:
    """Whether this provider's traffic goes through a proxy: its own, or the environment's."""
    if provider.network.proxy is not None:
        return bool(provider.network.proxy)
    proxies, host = getproxies(), provider.host or ""
    scheme = provider.base_url.partition(":")[0]
    return bool(proxies.get(scheme) or proxies.get("all")) and not proxy_bypass(host)


def ask(provider: HttpProvider, timeout: float) -> Found:
    """Whether HTTP is answered within ``timeout`` seconds: any status will do but a server's failure.  Nothing secret
    is sent, so 401 and 404 are what to expect."""
    proxy = provider.network.proxy
    try:
        answer = httpx.get(
            str(provider.base_url),
            timeout=timeout,
            follow_redirects=False,
            proxy=str(proxy) if proxy else None,
            verify=_context(provider),
            trust_env=proxy is None,
        )
    except httpx.TimeoutException:
        return Found(False, f"no HTTP answer within {timeout:g} s")
    except httpx.HTTPError as error:
        meant = classify_exception(error)
        why = meant.message if meant.kind is FaultKind.MISCONFIGURED else type(error).__name__
        return Found(False, f"no HTTP answer: {why}")
    return Found(answer.status_code < 500, f"HTTP {answer.status_code} without a key")


def _context(provider: HttpProvider) -> ssl.SSLContext:
    return provider.network.context(httpx.create_ssl_context)


def _expiry(tls: ssl.SSLSocket) -> str:
    told = (tls.getpeercert() or {}).get("notAfter")
    if not isinstance(told, str):
        return "unknown"
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(told), UTC).date().isoformat()
