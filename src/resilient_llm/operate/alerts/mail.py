"""Notifications by e-mail, over SMTP."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from typing import Literal, final

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.alerts.sinks import Hidden, Named, SinkFailed, Text
from resilient_llm.operate.alerts.words import Notification, Severity

_PORTS = {"starttls": 587, "tls": 465, "none": 25}


@final
class Email(Named):
    """Sends each notification as a plain text message.

    ``security``: ``starttls`` (port 587), ``tls`` (465), or ``none`` (25, for a relay on the same host); certificates
    are verified.  ``user`` and ``password`` log in; a password is never sent without encryption.  ``timeout`` is
    seconds for each step of the conversation with the server.
    """

    def __init__(
        self,
        host: str,
        sender: str,
        to: str | Sequence[str],
        *,
        port: int | None = None,
        security: Literal["starttls", "tls", "none"] = "starttls",
        user: str | None = None,
        password: Text | None = None,
        ssl_context: ssl.SSLContext | None = None,
        least: Severity = "warning",
        timeout: float = 5.0,
    ) -> None:
        super().__init__("email", least)
        addresses = (to,) if isinstance(to, str) else tuple(to)
        if not addresses or not all("@" in one and one.isprintable() for one in (*addresses, sender)):
            raise ConfigurationError(f"sender and to must be e-mail addresses, not {sender!r} and {addresses!r}")
        if security not in _PORTS:
            raise ConfigurationError(f"security must be one of {', '.join(_PORTS)}, not {security!r}")
        if (user is None) != (password is None):
            raise ConfigurationError("user and password belong together")
        if user is not None and security == "none":
            raise ConfigurationError("a password is not sent without encryption; security must be 'starttls' or 'tls'")
        self._host, self._port = host, _PORTS[security] if port is None else port
        self._sender, self._to, self._security, self._timeout = sender, addresses, security, timeout
        self._user = user
        self._password = None if password is None else Hidden("the password of email", password)
        self._context = ssl_context

    def send(self, notification: Notification) -> None:
        """Send it."""
        message = EmailMessage()
        message["Subject"] = " ".join(notification.title.split())
        message["From"], message["To"] = self._sender, ", ".join(self._to)
        message["Date"], message["Message-ID"] = formatdate(notification.at), make_msgid(domain="resilient-llm.invalid")
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies
        message.set_content(notification.text + "\n")
        try:
            with self._connected() as server:
                server.send_message(message)
        except smtplib.SMTPAuthenticationError as error:
            raise SinkFailed(f"the server refuses the login ({error.smtp_code})", lasting=True) from None
        except smtplib.SMTPResponseException as error:
            raise SinkFailed(f"SMTP {error.smtp_code}", lasting=error.smtp_code >= 500) from None
        except smtplib.SMTPRecipientsRefused as error:
            codes = sorted({code for code, _ in error.recipients.values()})
            raise SinkFailed(f"recipients refused {codes}", lasting=min(codes, default=0) >= 500) from None
        except smtplib.SMTPException as error:
            raise SinkFailed(type(error).__name__) from None
        except OSError as error:
            raise SinkFailed(f"{type(error).__name__}: {error}") from None

    def _connected(self) -> smtplib.SMTP:
        context = self._context or ssl.create_default_context()
        if self._security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
        try:
            if self._security == "starttls":
                server.starttls(context=context)
            if self._user is not None and self._password is not None:
                server.login(self._user, self._password.get())
        except BaseException:
            server.close()
            raise
        return server
