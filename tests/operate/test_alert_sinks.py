"""Each sink against a server on loopback: what it sends, what it makes of every answer, and that no secret shows."""

from __future__ import annotations

import itertools
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import Message

import pytest

from resilient_llm import ConfigurationError
from resilient_llm.operate.alerts import (
    Alert,
    Call,
    Email,
    Log,
    Notification,
    PagerDuty,
    SinkFailed,
    Slack,
    Webhook,
)
from resilient_llm.operate.alerts.delivery import MOST_QUEUED, MOST_TRIES, Outlet
from resilient_llm.operate.alerts.sinks import as_sink
from resilient_llm.operate.alerts.words import Kind, Severity
from tests.operate.servers import Receiver, receiver, silent_port

SECRET = "T00000000-B00000000-XXXXXXXXXXXXXXXX"
AT = 1_800_000_000.0


def alert(
    subject: str = "openai",
    kind: Kind = "provider_unhealthy",
    severity: Severity = "warning",
    ended: float | None = None,
) -> Alert:
    return Alert(kind, subject, severity, "down: 5 <failures> & more", AT, ended, f"https://runbooks/{kind}")


def fired(*alerts: Alert) -> Notification:
    return Notification("app", AT + 5, alerts, (), alerts)


def resolved(*alerts: Alert, firing: tuple[Alert, ...] = ()) -> Notification:
    return Notification("app", AT + 500, (), alerts, firing)


@pytest.fixture
def server() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


# --- over HTTP ---


def test_a_webhook_gets_the_notification_as_json_with_your_headers(server: Receiver) -> None:
    Webhook(f"{server.url}/hook/{SECRET}", headers={"Authorization": "Bearer token"}).send(fired(alert()))
    (got,) = server.received
    assert got.path == f"/hook/{SECRET}"
    assert got.headers["authorization"] == "Bearer token"
    assert got.headers["content-type"] == "application/json"
    assert got.body["title"] == "[app] 1 firing: openai is unhealthy"
    assert got.body["fired"] == [alert().as_dict()]


def test_slack_gets_text_in_which_nothing_is_markup_by_accident(server: Receiver) -> None:
    Slack(f"{server.url}/services/{SECRET}").send(fired(alert("a<b>"), alert("c", severity="critical")))
    (got,) = server.received
    assert got.body["text"] == "[app] 2 firing: a&lt;b&gt; is unhealthy, and 1 more"
    blocks = got.body["blocks"]
    assert isinstance(blocks, list)
    (block,) = blocks
    text = block["text"]["text"]
    assert "5 &lt;failures&gt; &amp; more" in text
    assert ":red_circle: *critical*" in text
    assert "<https://runbooks/provider_unhealthy|runbook>" in text
    Slack(server.url).send(fired(Alert("misconfigured", "a", "warning", "", AT, None, "docs/alerts.md#misconfigured")))
    assert "runbook: docs/alerts.md#misconfigured" in str(server.received[1].body)


def test_slack_gets_no_more_than_it_takes(server: Receiver) -> None:
    long = Alert("provider_unhealthy", "x", "warning", "y" * 10_000, AT, None, "https://runbooks/x")
    Slack(server.url).send(fired(long, *(alert(f"provider-{number}") for number in range(500))))
    blocks = server.received[0].body["blocks"]
    assert isinstance(blocks, list)
    assert 1 < len(blocks) <= 50
    assert max(len(block["text"]["text"]) for block in blocks) <= 3000


def test_pagerduty_opens_one_incident_per_kind_and_resolves_it_when_the_last_is_over(server: Receiver) -> None:
    pager = PagerDuty("R" * 32, url=server.url, source="host-1")
    one, other = alert("a"), alert("b", severity="critical")
    quota = alert("a", "quota_exhausted")
    pager.send(fired(one, other, quota))
    pager.send(resolved(alert("a", ended=AT + 400), firing=(other,)))
    pager.send(resolved(alert("b", ended=AT + 400)))
    first, second, third, fourth = (got.body for got in server.received)
    assert {got["routing_key"] for got in (first, second, third, fourth)} == {"R" * 32}
    assert first["event_action"] == second["event_action"] == third["event_action"] == "trigger"
    assert first["dedup_key"] == third["dedup_key"] == fourth["dedup_key"] == "resilient_llm/app/provider_unhealthy"
    assert second["dedup_key"] == "resilient_llm/app/quota_exhausted"
    assert fourth == {
        "routing_key": "R" * 32,
        "event_action": "resolve",
        "dedup_key": "resilient_llm/app/provider_unhealthy",
    }
    payload = first["payload"]
    assert isinstance(payload, dict)
    assert payload["summary"] == "[app] a, b is unhealthy"
    assert payload["severity"] == "critical"
    assert payload["source"] == "host-1"
    assert payload["timestamp"] == "2027-01-15T08:00:00+00:00"
    assert first["links"] == [{"href": "https://runbooks/provider_unhealthy", "text": "runbook"}]


@pytest.mark.parametrize(
    ("answer", "lasting", "after"),
    [
        (500, False, None),
        (429, False, None),
        ((429, {"retry-after": "30"}), False, 30.0),
        ((503, {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}), False, None),
        (400, True, None),
        (404, True, None),
        ((302, {"location": "http://127.0.0.1:1/elsewhere"}), True, None),
    ],
)
def test_what_an_answer_means_for_trying_again(
    server: Receiver, answer: int | tuple[int, dict[str, str]], lasting: bool, after: float | None
) -> None:
    server.answers.append(answer)
    with pytest.raises(SinkFailed, match="HTTP ") as caught:
        Webhook(f"{server.url}/{SECRET}").send(fired(alert()))
    assert caught.value.lasting is lasting
    assert caught.value.retry_after == after
    assert len(server.received) == 1, "redirects are not followed"


@pytest.mark.parametrize("how", ["hang", "drip"])
def test_a_request_ends_in_time_as_a_whole_also_where_bytes_keep_coming(server: Receiver, how: str) -> None:
    server.answers.append(how)
    started = time.monotonic()
    with pytest.raises(SinkFailed):
        Webhook(server.url, timeout=0.3).send(fired(alert()))
    assert time.monotonic() - started < 3.0


def test_nobody_listens() -> None:
    with silent_port() as port:
        pass
    with pytest.raises(SinkFailed, match="Connect") as caught:
        Webhook(f"http://127.0.0.1:{port}/{SECRET}").send(fired(alert()))
    assert SECRET not in str(caught.value)


def test_a_url_and_a_key_may_be_functions_which_are_asked_each_time(server: Receiver) -> None:
    keys = iter(["one", "two"])
    pager = PagerDuty(lambda: next(keys), url=server.url)
    pager.send(fired(alert()))
    pager.send(fired(alert()))
    assert [got.body["routing_key"] for got in server.received] == ["one", "two"]
    with pytest.raises(SinkFailed, match="the routing_key of pagerduty: its function raised StopIteration"):
        pager.send(fired(alert()))
    with pytest.raises(SinkFailed, match="must be http"):
        Slack(lambda: f"ftp://{SECRET}").send(fired(alert()))


def test_no_repr_log_or_error_shows_a_secret(server: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    sinks = [
        Webhook(f"{server.url}/{SECRET}", headers={"authorization": SECRET}),
        Slack(f"{server.url}/{SECRET}"),
        PagerDuty(SECRET, url=server.url),
        Email("127.0.0.1", "a@example.com", "b@example.com", port=1, user="u", password=SECRET),
    ]
    server.default = 500
    with caplog.at_level(logging.DEBUG):
        for sink in sinks:
            outlet = Outlet(sink)
            for number in range(MOST_TRIES):
                outlet.put(fired(alert()))
                outlet.deliver(number * 1000.0)
            assert SECRET not in f"{sink!r} {vars(sink)} {outlet.state()}"
            assert outlet.state().dropped
    assert "was dropped" in caplog.text
    assert SECRET not in caplog.text


# --- e-mail ---


class Mailbox:
    """Handler of a real SMTP server (aiosmtpd) on loopback: what arrived, and the answer to the next recipients."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.tls: list[bool] = []
        self.refuse: str | None = None

    async def handle_RCPT(self, server: object, session: object, envelope: object, address: str, _: object) -> str:  # noqa: N802
        if self.refuse is not None:
            return self.refuse
        envelope.rcpt_tos.append(address)  # type: ignore[attr-defined]
        return "250 OK"

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # noqa: N802
        self.messages.append(message_from_bytes(envelope.content))  # type: ignore[attr-defined]
        self.tls.append(session.ssl is not None)  # type: ignore[attr-defined]
        return "250 OK"


Started = Callable[..., tuple[Mailbox, int]]


@pytest.fixture
def mail() -> Iterator[Started]:
    controllers = pytest.importorskip("aiosmtpd.controller", reason="a real SMTP server needs aiosmtpd")
    running = []

    def start(**settings: object) -> tuple[Mailbox, int]:
        box = Mailbox()
        controller = controllers.Controller(box, hostname="127.0.0.1", port=0, **settings)
        running.append(controller)
        found: list[int] = []

        def trigger() -> None:  # its own knocks at the port it was given, which is 0 here
            found.append(controller.server.sockets[0].getsockname()[1])
            socket.create_connection(("127.0.0.1", found[0]), 5.0).close()

        controller._trigger_server = trigger
        controller.start()
        return box, found[0]

    yield start
    for controller in running:
        controller.stop()


def test_an_email_arrives_with_a_subject_of_one_line(mail: Started) -> None:
    box, port = mail()
    sink = Email("127.0.0.1", "llm@example.com", ["ops@example.com", "me@example.com"], port=port, security="none")
    sink.send(fired(alert("pro\r\nBcc: evil@example.com")))
    (got,) = box.messages
    assert got["Subject"] == "[app] 1 firing: pro Bcc: evil@example.com is unhealthy"
    assert got["Bcc"] is None
    assert got["To"] == "ops@example.com, me@example.com"
    assert got["Auto-Submitted"] == "auto-generated"
    assert "runbook: https://runbooks/provider_unhealthy" in got.get_payload()


def test_a_password_travels_only_encrypted_and_only_to_whom_the_certificate_names(mail: Started) -> None:
    trustme = pytest.importorskip("trustme", reason="certificates for the SMTP server need trustme")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    seen: list[bytes] = []

    def login(server: object, session: object, envelope: object, mechanism: str, data: object) -> object:
        from aiosmtpd.smtp import AuthResult

        seen.append(data.password)  # type: ignore[attr-defined]
        return AuthResult(success=data.password == SECRET.encode(), handled=False)  # type: ignore[attr-defined]

    box, port = mail(tls_context=context, authenticator=login)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    settings = {"port": port, "user": "llm", "ssl_context": trusting}
    Email("127.0.0.1", "a@example.com", "b@example.com", password=SECRET, **settings).send(fired(alert()))
    assert box.tls == [True]
    wrong = Email("127.0.0.1", "a@example.com", "b@example.com", password="wrong", **settings)
    with pytest.raises(SinkFailed, match="refuses the login") as caught:
        wrong.send(fired(alert()))
    assert caught.value.lasting
    seen.clear()
    distrusting = Email("127.0.0.1", "a@example.com", "b@example.com", port=port, user="llm", password=SECRET)
    with pytest.raises(SinkFailed, match="CERTIFICATE_VERIFY_FAILED"):
        distrusting.send(fired(alert()))
    assert seen == []


@pytest.mark.parametrize(("words", "lasting"), [("451 later", False), ("550 nobody", True)])
def test_recipients_that_are_refused(mail: Started, words: str, lasting: bool) -> None:
    box, port = mail()
    box.refuse = words
    with pytest.raises(SinkFailed, match=words[:3]) as caught:
        Email("127.0.0.1", "a@example.com", "b@example.com", port=port, security="none").send(fired(alert()))
    assert caught.value.lasting is lasting


def test_a_mail_server_that_says_nothing_costs_the_timeout_at_most() -> None:
    with silent_port() as port:
        started = time.monotonic()
        with pytest.raises(SinkFailed, match="Disconnected"):
            Email("127.0.0.1", "a@b.c", "d@e.f", port=port, security="none", timeout=0.2).send(fired(alert()))
        assert time.monotonic() - started < 3.0


# --- log and function ---


def test_the_log_has_a_line_per_alert_at_its_level(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "resilient_llm.alerts"):
        Log().send(fired(alert(severity="critical"), alert("b", severity="info")))
        Log().send(resolved(alert(ended=AT + 60)))
        Log().send(Notification("app", AT, (), (), (alert(),)))
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "INFO", "WARNING"]
    assert caplog.records[0].__dict__["alert"]["kind"] == "provider_unhealthy"
    assert caplog.messages[2] == "alert resolved: openai recovered after 60 s"
    assert "still firing" in caplog.messages[3]


def test_a_function_is_a_sink() -> None:
    got: list[Notification] = []
    sink = as_sink(got.append)
    sink.send(fired(alert()))
    assert got == [fired(alert())]
    assert sink.least == "info"


# --- the queue before a sink ---


def test_a_sink_that_fails_is_tried_again_later_and_later_and_then_the_notification_is_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries: list[float] = []
    now = 0.0

    def fail(_: Notification) -> None:
        tries.append(now)
        raise ValueError(f"nobody may read this: {SECRET}")

    outlet = Outlet(Call(fail))
    outlet.put(fired(alert()))
    while outlet.state().queued:
        outlet.deliver(now)
        now += 1.0
    assert [round(later - earlier) for earlier, later in itertools.pairwise(tries)] == [2, 4, 8, 16, 32]
    assert outlet.state().dropped == 1
    assert "ValueError in fail, line" in caplog.text
    assert SECRET not in caplog.text
    outlet.put(fired(alert()))
    outlet.deliver(now + 1000)
    assert outlet.state().queued == 1, "the next one has tries of its own"


def test_who_asks_to_wait_is_waited_for() -> None:
    answers: list[Exception | None] = [SinkFailed("HTTP 429", retry_after=40.0), None]
    sent: list[float] = []
    now = 0.0

    def answer(_: Notification) -> None:
        error = answers.pop(0)
        if error is not None:
            raise error
        sent.append(now)

    outlet = Outlet(Call(answer))
    outlet.put(fired(alert()))
    for second in range(60):
        now = float(second)
        outlet.deliver(now)
    assert sent == [40.0]
    assert outlet.state().error is None


def test_what_will_never_work_is_dropped_at_once() -> None:
    def refuse(_: Notification) -> None:
        raise SinkFailed("HTTP 404", lasting=True)

    outlet = Outlet(Call(refuse))
    outlet.put(fired(alert()))
    outlet.deliver(0.0)
    assert (outlet.state().queued, outlet.state().dropped, outlet.state().error) == (0, 1, "HTTP 404")


def test_the_queue_is_bounded_and_the_oldest_goes() -> None:
    got: list[Notification] = []
    outlet = Outlet(Call(got.append))
    for number in range(MOST_QUEUED + 3):
        outlet.put(fired(alert(f"p{number}")))
    outlet.deliver(0.0)
    assert [one.fired[0].subject for one in got] == [f"p{number}" for number in range(3, MOST_QUEUED + 3)]
    assert outlet.state().dropped == 3


def test_a_sink_gets_only_what_is_severe_enough_for_it() -> None:
    got: list[Notification] = []
    outlet = Outlet(Call(got.append, least="critical"))
    outlet.put(fired(alert()))
    outlet.put(fired(alert(), alert("b", severity="critical")))
    outlet.deliver(0.0)
    assert [[one.subject for one in each.fired] for each in got] == [["b"]]


# --- mistakes ---


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: Webhook("hooks.slack.com/x"), "the url of webhook must be http"),
        (lambda: Webhook(f"ftp://{SECRET}"), "the url of webhook must be http"),
        (lambda: Webhook("http://a b/"), "the url of webhook"),
        (lambda: Webhook(""), "the url of webhook is empty"),
        (lambda: Webhook(7), "the url of webhook must be a string or a function, not a int"),
        (lambda: Webhook("http://x", headers={"a": "b\r\nc"}), "line break"),
        (lambda: Webhook("http://x", headers={"a": "ö"}), "ASCII"),
        (lambda: Webhook("http://x", timeout=0), "timeout must be a number of seconds above 0"),
        (lambda: Slack("http://x", least="error"), "least must be one of info, warning, critical, not 'error'"),
        (lambda: PagerDuty(""), "the routing_key of pagerduty is empty"),
        (lambda: Email("h", "nobody", "a@b.c"), "e-mail addresses"),
        (lambda: Email("h", "a@b.c", []), "e-mail addresses"),
        (lambda: Email("h", "a@b.c", "d@e.f", security="ssl"), "security must be one of starttls, tls, none"),
        (lambda: Email("h", "a@b.c", "d@e.f", user="u"), "belong together"),
        (lambda: Email("h", "a@b.c", "d@e.f", user="u", password="p", security="none"), "without encryption"),
        (lambda: as_sink("https://hooks.slack.com/x"), "say Webhook"),
        (lambda: as_sink(Slack), "Slack is a class, say Slack"),
        (lambda: as_sink(None), "a sink must be a function"),
    ],
)
def test_mistakes_are_told_at_once_and_show_no_secret(wrong: Callable[[], object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        wrong()
    assert SECRET not in str(caught.value)


def test_a_sink_that_hangs_holds_up_nobody_and_goes_on_where_it_was() -> None:
    go, got = threading.Event(), list[str]()

    def hang(notification: Notification) -> None:
        go.wait(20)
        got.append(notification.fired[0].subject)

    outlet = Outlet(Call(hang))
    outlet.put(fired(alert("first")))
    outlet.deliver(0.0)
    for number in range(MOST_QUEUED):
        outlet.put(fired(alert(f"p{number}")))
    outlet.deliver(1.0)
    assert (got, outlet.state().sent, outlet.state().dropped) == ([], 0, 1)
    go.set()
    outlet.wait(20)
    assert got == ["first", *(f"p{number}" for number in range(MOST_QUEUED))]
    assert (outlet.state().queued, outlet.state().sent) == (0, MOST_QUEUED + 1)
