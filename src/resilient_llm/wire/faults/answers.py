"""What an answer means: any status, headers and body -> a :class:`~resilient_llm.errors.Fault`, or success.

``body`` reads whatever came into a small record, ``rules`` decides its kind by one ordered table, and the server's hint
how long to wait is looked for.  ``in_band`` knows where vendors hide failures inside a 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from resilient_llm.errors import Fault, FaultKind, FaultScope
from resilient_llm.wire.faults import in_band, times
from resilient_llm.wire.faults.body import Facts, decode, lowered, read
from resilient_llm.wire.faults.rules import Verdict, decide, scope_of
from resilient_llm.wire.faults.scrub import scrub, scrub_json
from resilient_llm.wire.kit import fields as f

_SSE = "text/event-stream"
_AROUND_ERRORS = frozenset({"error", "type", "request_id"})
_HINTS_NEVER_HELP = frozenset({FaultKind.PAYLOAD_TOO_LARGE, FaultKind.CONTEXT_LENGTH, FaultKind.BAD_REQUEST})


def classify(
    vendor: str, status: int | str | None, headers: Mapping[str, str] | None, body: object, *, now: float | None = None
) -> Fault | None:
    """What a whole answer means; ``None`` is success.

    ``body`` is bytes, text, or parsed JSON; ``status`` 0 or ``None`` means there was no response, and digits are read
    as a number.  ``now`` is the wall clock in epoch seconds, for hints given as a date; the response's ``Date`` header
    wins over it, and without either such a hint is unknown.  An unknown ``vendor`` is judged by the general rules.

    With a success status, ``None`` or empty as the body means that nothing came, which is a failure: do not ask before
    a stream has been read.  ``Retry-After`` on a success (Anthropic, Hugging Face) is no hint.  Never raises.
    """
    fields = lowered(headers)
    if isinstance(status, str):
        status = int(status) if status.isascii() and status.isdigit() and len(status) < 4 else 0
    if not isinstance(status, int) or status <= 0:
        return Fault(FaultKind.CONNECTION, scope=FaultScope.ENDPOINT, message="no response")
    decoded = decode(body)
    if 200 <= status < 300:
        empty = status in {204, 205} or (status == 202 and not decoded)
        failure = None if empty else in_band.find(fields, decoded)
        return None if failure is None else _from_evidence(vendor, status, fields, failure, now)
    clock = times.clock_of(fields, now)
    facts = read(vendor, fields, decoded, clock)
    verdict = decide(vendor, status, facts)
    fault = _fault(verdict, facts, status, _hint_of(fields, facts, clock, limits=status == 429), decoded)
    if fault.kind is FaultKind.MISCONFIGURED:
        return replace(fault, message=_looks_wrong(status, fields.get("location"), fault.message))
    return fault


def _looks_wrong(status: int, location: str | None, said: str) -> str:
    """What about an answer shows that the endpoint is not the API we expect."""
    if location is not None and 300 <= status < 400:
        said = f"to {scrub(location.partition('?')[0], 100)}"
    what = "a redirect" if 300 <= status < 400 else f"status {status}"
    return scrub(f"{what} where an API was expected{': ' if said else ''}{said}")


def classify_stream_error(vendor: str, payload: object, *, now: float | None = None) -> Fault:
    """What an error inside a running stream means: ``payload`` is its decoded JSON, or text.

    The envelope's status was a success and tells nothing, so the payload's own codes decide, then its text; one that
    tells nothing either is a server error.  ``now`` as for :func:`classify`.  Never raises.
    """
    decoded = decode(payload)
    found = None if isinstance(decoded, str) or decoded is None else in_band.find({"content-type": _SSE}, decoded)
    return _from_evidence(vendor, 200, {}, found or in_band.InBand(decoded), now)


def _from_evidence(
    vendor: str, status: int, headers: Mapping[str, str], failure: in_band.InBand, now: float | None
) -> Fault:
    clock = times.clock_of(headers, now)
    readable = failure.evidence if failure.kind is None else None  # an answer cut off by a filter is not an error text
    facts = read(vendor, headers, readable, clock)
    verdict = Verdict(failure.kind) if failure.kind is not None else decide(vendor, 0, facts)
    return _fault(verdict, facts, status, _hint_of({}, facts, clock, limits=False), _error_alone(readable))


def _error_alone(evidence: object) -> object:
    """What an answer says of its error, without the rest of the answer."""
    said = f.as_object(evidence)
    return {key: said[key] for key in _AROUND_ERRORS & said.keys()} if f.is_object(said.get("error")) else evidence


def _fault(verdict: Verdict, facts: Facts, status: int, hint: float | None, said: object) -> Fault:
    trusted = verdict.trust_hint and verdict.kind not in _HINTS_NEVER_HELP
    return Fault(
        kind=verdict.kind,
        retry_after=hint,
        scope=verdict.scope or scope_of(verdict.kind),
        status=status,
        code=scrub(facts.code, 100) if facts.code else None,
        message=scrub(facts.message),
        trust_hint=trusted or hint is None,
        request_id=facts.request_id[:200] if facts.request_id else None,
        body=scrub_json(_object_of(said)) if facts.structured else None,
    )


def _object_of(said: object) -> object:
    """Gemini wraps the error of a stream in a list."""
    return said[0] if f.is_list(said) and len(said) == 1 else said


def parse_retry_after(
    headers: Mapping[str, str], body: object, vendor: str = "", now: float | None = None
) -> float | None:
    """Seconds the server asks to wait after a failed request; ``None`` if it does not say, or says nonsense.

    The first of these that can be read: ``retry-after-ms``, ``x-ms-retry-after-ms``, ``retry-after``, the structured
    body, the vendor's reset header of an exhausted bucket, the text.  The number is the server's own, not clamped (more
    than ten years counts as nonsense); a date that has passed is 0.  ``now`` is the wall clock in epoch seconds for
    absolute dates, overruled by a ``Date`` header.  Never raises.
    """
    fields = lowered(headers)
    clock = times.clock_of(fields, now)
    return _hint_of(fields, read(vendor, fields, decode(body), clock), clock)


def _hint_of(headers: Mapping[str, str], facts: Facts, clock: float | None, *, limits: bool = True) -> float | None:
    """As :func:`parse_retry_after`, from what was read already.  ``limits`` false leaves reset headers out: on anything
    but a 429 they describe buckets that had nothing to do with the failure."""
    plain = headers.get("retry-after", "")
    # A bucket that tells only its reset counts as exhausted.
    buckets = facts.limits.known().values() if limits else ()
    resets = [bucket.reset_in for bucket in buckets if bucket.reset_in is not None and not bucket.remaining]
    for found in (
        times.milliseconds(headers.get("retry-after-ms", "")),
        times.milliseconds(headers.get("x-ms-retry-after-ms", "")),
        times.seconds(plain),
        times.until(plain, clock),
        next(iter(facts.hints.values()), None),
        max(resets, default=None),
    ):
        if found is not None:
            return found
    return times.wait_in_words(facts.text)
