"""What every codec must keep, as functions over recorded exchanges.

A codec's test file declares one :class:`Subject`: the codec, how its streams are framed, what counts as terminal
evidence (written independently of the codec), and the normalisations under which a body that went through the codec
and back counts as the same.  The functions here return differences as readable lines; an empty list means "the same".

    SUBJECT = Subject(codec("openai_chat"), sse_frames, terminal, request_rules=(...), response_rules=(...))

    def test_requests_survive_the_round_trip():
        assert_only(tally(requests("openai_chat"), partial(request_differences, SUBJECT)), EXCEPTIONS)
"""

from __future__ import annotations

import base64
import dataclasses
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import ChatResponse, StreamBroken, StreamEnd, StreamError, StreamEvent, Thought
from resilient_llm.wire.kit.accumulate import Accumulator, replay
from resilient_llm.wire.protocol import Codec
from tests.material import corpus
from tests.wire.readers import read_request

CHUNK_SIZES = (1, 2, 3, 7, 4093)
ABSENT = object()
"""What a rule returns for "as if the field were not there"."""


# --- normalisation -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """Values at ``path`` (a regular expression over ``a.b[].c``, matched whole) are compared after ``treat``."""

    path: str
    treat: Callable[[Any], Any]
    why: str


def ignored(_value: Any) -> Any:
    return ABSENT


def absent_if_null(value: Any) -> Any:
    return ABSENT if value is None else value


def absent_if_empty(value: Any) -> Any:
    return ABSENT if value is None or value in ("", [], {}) else value


def as_json(value: Any) -> Any:
    """A string holding JSON is compared by what it holds; an empty one is an empty object."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value) if value.strip() else {}
    except ValueError:
        return value


def absent_if(default: Any) -> Callable[[Any], Any]:
    """The vendor's documented default, written out, says the same as nothing."""
    return lambda value: ABSENT if value == default and type(value) is type(default) else value


def normalise(value: Any, rules: Sequence[Rule], path: str = "") -> Any:
    """``value`` with every rule applied, children first."""
    if isinstance(value, dict):
        prefix = f"{path}." if path else ""
        children = {key: normalise(child, rules, f"{prefix}{key}") for key, child in value.items()}
        value = {key: child for key, child in children.items() if child is not ABSENT}
    elif isinstance(value, list):
        items = [normalise(child, rules, f"{path}[]") for child in value]
        value = [item for item in items if item is not ABSENT]
    for rule in rules:
        if re.fullmatch(rule.path, path):
            value = rule.treat(value)
            if value is ABSENT:
                break
    return value


def differences(expected: Any, actual: Any, path: str = "$") -> list[str]:
    """Where two JSON values differ, one line each.  1 and 1.0 are the same number, 1 and true are not."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        lines = [f"{path}.{key}: lost {_short(expected[key])}" for key in expected.keys() - actual.keys()]
        lines += [f"{path}.{key}: appeared {_short(actual[key])}" for key in actual.keys() - expected.keys()]
        for key in expected.keys() & actual.keys():
            lines += differences(expected[key], actual[key], f"{path}.{key}")
        return sorted(lines)
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for i, (left, right) in pairs for line in differences(left, right, f"{path}[{i}]")]
    if expected == actual and isinstance(expected, bool) == isinstance(actual, bool):
        return []
    return [f"{path}: {_short(expected)} became {_short(actual)}"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 160 else text[:157] + "..."


# --- the subject and its material --------------------------------------------------------------------------


@dataclass(frozen=True)
class Subject:
    """A codec under test.

    ``frames`` cuts the bytes of a stream into whole frames (joined they are the bytes again); ``terminal`` says
    whether these whole frames contain the wire's terminal evidence.
    """

    codec: Codec
    frames: Callable[[bytes], list[bytes]]
    terminal: Callable[[Sequence[bytes]], bool]
    request_rules: tuple[Rule, ...] = ()
    response_rules: tuple[Rule, ...] = ()


def requests(*files: str) -> Iterator[dict[str, Any]]:
    """Records of these corpus files that have a request the provider accepted."""
    return (record for record in _records(files) if record["request"] is not None and record["status"] == 200)


def responses(*files: str) -> Iterator[dict[str, Any]]:
    """Records of these corpus files with a whole successful answer."""
    return (r for r in _records(files) if not r["stream"] and r["status"] == 200 and r["outcome"] == "complete")


def streams(*files: str) -> Iterator[dict[str, Any]]:
    """Records of these corpus files whose answer is a stream."""
    return (record for record in _records(files) if record["stream"])


def _records(files: Iterable[str]) -> Iterator[dict[str, Any]]:
    for name in files:
        yield from corpus(name)  # type: ignore[misc]


def stream_bytes(record: Mapping[str, Any]) -> bytes:
    """The stream of a record as bytes."""
    if record.get("body_b64") is not None:
        return base64.b64decode(record["body_b64"])
    return str(record["body_text"]).encode()


def sse_frames(raw: bytes) -> list[bytes]:
    """Server-sent events: a frame ends after its blank line, whatever the line ends are."""
    return [piece for piece in re.split(rb"(?<=\n\n)|(?<=\r\n\r\n)|(?<=\r\r)", raw) if piece]


def line_frames(raw: bytes) -> list[bytes]:
    """NDJSON: one frame a line."""
    return raw.splitlines(keepends=True)


def eventstream_frames(raw: bytes) -> list[bytes]:
    """AWS event stream: every frame opens with its own length, four bytes big-endian."""
    frames = []
    while raw:
        size = int.from_bytes(raw[:4], "big")
        frames.append(raw[:size])
        raw = raw[size:]
    return frames


# --- whole bodies ------------------------------------------------------------------------------------------


def request_differences(subject: Subject, record: Mapping[str, Any]) -> list[str]:
    """A request through the neutral model and back, without the shortcut that forwards the caller's own body."""
    body, path = record["request"], record.get("url_path") or ""
    request = read_request(subject.codec, json.dumps(body).encode(), path)
    again = subject.codec.encode_request(dataclasses.replace(request, source=None))
    return _compare(body, json.loads(again.body), subject.request_rules)


def forwarding_differences(subject: Subject, record: Mapping[str, Any]) -> list[str]:
    """A request forwarded to its own wire: nothing changes, whether we know the field or not."""
    body, path = record["request"], record.get("url_path") or ""
    request = read_request(subject.codec, json.dumps(body).encode(), path)
    rules = (Rule("stream_options", ignored, "usage is asked for in every stream"),)
    return _compare(body, json.loads(subject.codec.encode_request(request).body), rules)


def response_differences(subject: Subject, record: Mapping[str, Any]) -> list[str]:
    """A whole answer through the neutral model and back."""
    body = record["body"]
    again = subject.codec.encode_response(subject.codec.decode_response(json.dumps(body).encode()))
    return _compare(body, json.loads(again), subject.response_rules)


def _compare(before: Any, after: Any, rules: Sequence[Rule]) -> list[str]:
    return differences(normalise(before, rules), normalise(after, rules))


# --- streams -----------------------------------------------------------------------------------------------


def events_of(codec: Codec, chunks: Iterable[bytes]) -> list[StreamEvent]:
    """Every event of a stream that arrives in these chunks and then ends."""
    decoder = codec.stream_decoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.close()


def assembled(events: Iterable[StreamEvent]) -> ChatResponse:
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.response()


def meaning(response: ChatResponse) -> dict[str, Any]:
    """What an application reads from an answer, free of ids and of how it was cut into parts."""
    answers = [(response.parts, response.finish_reason)]
    answers += [(choice.parts, choice.finish_reason) for choice in response.alternatives]
    usage = dataclasses.replace(response.usage, extra=None) if response.usage else None
    return {"answers": [_answer(parts, finish) for parts, finish in answers], "usage": usage}


def _answer(parts: Sequence[Any], finish: str) -> dict[str, Any]:
    whole = ChatResponse(tuple(parts))
    return {
        "text": whole.text,
        "reasoning": whole.reasoning,
        "signatures": [part.signature for part in parts if isinstance(part, Thought) and part.signature],
        "refusal": whole.refusal,
        "tools": [(call.name, as_json(call.arguments)) for call in whole.tool_calls],
        "others": sorted(type(part).__name__ for part in parts if type(part).__name__ in {"Media", "Opaque"}),
        "finish": finish,
    }


def assembly_differences(subject: Subject, raw: bytes) -> list[str]:
    """A stream put together means the same as the same answer sent whole, and as the same stream sent on."""
    codec = subject.codec
    events = events_of(codec, [raw])
    expected = meaning(assembled(events))
    whole = codec.decode_response(codec.encode_response(assembled(events)))
    lines = differences(expected, meaning(whole), "sent whole")
    return lines + differences(expected, meaning(_resent(codec, events)), "sent on")


def replay_differences(subject: Subject, body: Any) -> list[str]:
    """A whole answer, played back as a stream, still means the same."""
    response = subject.codec.decode_response(json.dumps(body).encode())
    return differences(meaning(response), meaning(_resent(subject.codec, replay(response))), "played back")


def _resent(codec: Codec, events: Iterable[StreamEvent]) -> ChatResponse:
    encoder = codec.stream_encoder()
    return assembled(events_of(codec, [encoder.feed(event) for event in events]))


def rechunking_differences(subject: Subject, raw: bytes) -> list[str]:
    """The events do not depend on how the bytes arrive."""
    whole = events_of(subject.codec, [raw])
    return [
        f"chunks of {size}: {_first_difference(whole, events)}"
        for size in CHUNK_SIZES
        if (events := events_of(subject.codec, [raw[i : i + size] for i in range(0, len(raw), size)])) != whole
    ]


def _first_difference(left: Sequence[object], right: Sequence[object]) -> str:
    for i, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return f"event {i}: {_short(a)} became {_short(b)}"
    return f"{len(left)} events became {len(right)}"


def cut_differences(subject: Subject, raw: bytes, seed: int = 0) -> list[str]:
    """A stream cut at any frame boundary, at a dozen random bytes, or in the frames that end it, is complete only if
    its evidence had arrived.  The last event may lack its blank line."""
    ends = _frame_ends(subject, raw)
    cuts = {0, *ends} | set(random.Random(f"{seed}{len(raw)}").choices(range(len(raw) + 1), k=12))
    for begin, end in zip([0, *ends][-4:-1], ends[-3:], strict=True) if len(ends) > 2 else ():
        cuts |= {*range(max(begin, end - 12), end), *range(begin, end, max(1, (end - begin) // 8))}
    lines = []
    for cut in sorted(cuts):
        events = events_of(subject.codec, [raw[:cut]])
        arrived = _without_blank_line(raw, ends, cut)
        whole = subject.frames(raw[: max((end for end in ends if end <= arrived), default=0)])
        complete, entitled = any(isinstance(event, StreamEnd) for event in events), subject.terminal(whole)
        failed = [event for event in events if isinstance(event, StreamBroken | StreamError)]
        if complete and not entitled:
            lines.append(f"cut at {cut} of {len(raw)}: reported complete without evidence")
        if len(failed) + complete != 1:  # exactly one verdict: complete, or one failure
            lines.append(f"cut at {cut} of {len(raw)}: {events[-3:]!r}")
    return lines


def _without_blank_line(raw: bytes, ends: list[int], cut: int) -> int:
    """Where a cut is that leaves out nothing of the data of an event."""
    end = next((end for end in ends if end >= cut), cut)
    begin = max((other for other in ends if other < end), default=0)
    data = [line for line in raw[begin:end].splitlines(keepends=True) if line.startswith(b"data:")]
    last = raw.find(data[-1], begin) + len(data[-1].rstrip(b"\r\n")) if data else end
    return end if last <= cut else cut


def _frame_ends(subject: Subject, raw: bytes) -> list[int]:
    ends, position = [], 0
    for frame in subject.frames(raw):
        position += len(frame)
        ends.append(position)
    return ends


def injection_differences(subject: Subject, raw: bytes, frame: bytes | None = None) -> list[str]:
    """An error frame at any position is reported as an error, last and once; after the end nothing is heard."""
    fault = Fault(FaultKind.OVERLOADED, status=503)
    frame = frame or subject.codec.encode_stream_error(fault, "The server is overloaded.")
    lines = []
    for end in [0, *_frame_ends(subject, raw)]:
        over = any(isinstance(event, StreamEnd) for event in subject.codec.stream_decoder().feed(raw[:end]))
        events = events_of(subject.codec, [raw[:end] + frame + raw[end:]])
        last = StreamEnd if over else StreamError
        ended = [event for event in events if isinstance(event, StreamEnd | StreamBroken | StreamError)]
        if ended != events[-1:] or not isinstance(events[-1], last):
            lines.append(f"error at {end} of {len(raw)}: {events[-3:]!r}")
    return lines


# --- figures -----------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """How many records passed a check, and what was wrong with the others, by record id."""

    total: int = 0
    failures: dict[str, list[str]] = field(default_factory=dict)


def tally(records: Iterable[Mapping[str, Any]], check: Callable[[Any], list[str]]) -> Tally:
    """Run a check over all records.  An exception is a failure of its record, not of the run."""
    result = Tally()
    for record in records:
        result.total += 1
        try:
            lines = check(record)
        except Exception as error:  # reported with the record's id
            lines = [f"{type(error).__name__}: {error}"]
        if lines:
            result.failures[record["id"]] = lines
    return result


def assert_only(result: Tally, exceptions: Mapping[str, str]) -> None:
    """Every failure has a declared reason, and no declared exception is stale."""
    assert result.total, "no records were checked"
    unexpected = {id_: lines[:5] for id_, lines in result.failures.items() if id_ not in exceptions}
    report = "\n".join(f"{id_}\n    " + "\n    ".join(lines) for id_, lines in list(unexpected.items())[:15])
    assert not unexpected, f"{len(unexpected)} of {result.total} differ:\n{report}"
    assert not exceptions.keys() - result.failures.keys(), "these exceptions no longer occur"
