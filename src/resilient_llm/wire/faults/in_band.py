"""Failures that arrive with a success status: a 200 is not success until its content says so.

What the *model* wrote is never searched for error words; only the fields in which vendors report are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from resilient_llm.errors import FaultKind
from resilient_llm.wire.faults.body import UNDECODED, canonical, is_html, parse_json
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.reasons import meaning

K = FaultKind


@dataclass(frozen=True, slots=True)
class InBand:
    """A failure found in a success: its kind where the place decides it, else what to read for it."""

    evidence: object = None
    kind: FaultKind | None = None


_FINISH: Mapping[str, FaultKind] = {
    **dict.fromkeys(("language", "imageother", "toxic", "jailbreak"), K.CONTENT_FILTER),
    "noimage": K.SERVER_ERROR,
    "timeout": K.TIMEOUT,
    "insufficientsystemresource": K.OVERLOADED,
    "errorlimit": K.CONTEXT_LENGTH,
    "usercancel": K.CLIENT_CLOSED,
}
"""Reasons to end, where what they mean for an answer does not say which failure they are."""
_KINDS: Mapping[str, FaultKind] = {"content_filter": K.CONTENT_FILTER, "error": K.SERVER_ERROR}
_ANSWERS = f.words("""
    choices content candidates output data embeddings embedding result results response text generations predictions
    models outputs usage usageMetadata totalTokens input_tokens delta done stop_reason stopReason finish_reason metadata
""")
_AROUND_CANDIDATES = frozenset({"usageMetadata", "modelVersion", "responseId", "createTime", "promptFeedback"})
_MEDIA = ("audio/", "image/", "video/", "application/vnd.amazon.eventstream", "application/octet-stream")
_SSE_FIELD = re.compile(r"(?:data|event|id|retry|error)?:", re.IGNORECASE)


def find(headers: Mapping[str, str], body: object) -> InBand | None:
    """The failure in a 2xx answer, or ``None`` if there is none to see.  ``headers`` have lower-case names; ``body`` is
    decoded: JSON, or the text that was not JSON."""
    content_type = headers.get("content-type", "").lower()
    streaming = "event-stream" in content_type or "ndjson" in content_type
    if headers.get(":message-type") in {"exception", "error"}:
        return InBand(body)
    if isinstance(body, str):
        return _in_text(body, content_type, streaming)
    if f.is_list(body):
        found = (_in_object(item, True) for item in f.objects(body))
        return next((failure for failure in found if failure), None)
    if f.is_object(body):
        return _in_object(body, streaming)
    if body is None:
        return InBand(kind=K.CONNECTION if streaming else K.SERVER_ERROR)
    return InBand(kind=K.SERVER_ERROR)  # a number or a boolean is nobody's answer


def _in_text(text: str, content_type: str, streaming: bool) -> InBand | None:
    if not text.strip():
        # Blank lines are keep-alives: the provider was there and said nothing until it gave up.
        return InBand(kind=K.TIMEOUT if text else K.CONNECTION if streaming else K.SERVER_ERROR)
    if content_type.startswith(_MEDIA):
        return None
    if is_html(text):
        return InBand(text)
    if streaming or _SSE_FIELD.match(text.lstrip()):
        return _in_lines(text)
    if text.lstrip()[:1] not in {"{", "["}:
        return InBand(text)
    lines = _in_lines(text)
    if lines is not None or parse_json(text.strip().split("\n", 1)[0]) is not UNDECODED:
        return lines  # JSON lines
    return InBand(kind=K.CONNECTION)  # JSON that was cut short


def _in_lines(text: str) -> InBand | None:
    """Event streams and JSON lines, as one text: the first failing line."""
    for line in text.splitlines():
        payload = parse_json(_SSE_FIELD.sub("", line, count=1) if _SSE_FIELD.match(line) else line)
        failure = _in_object(payload, True) if f.is_object(payload) else None
        if line.lower().startswith("error:") and failure is None:  # older llama.cpp
            return InBand({"error": line[6:].strip()})
        if failure is not None:
            return failure
    return None


def _in_object(body: Mapping[str, object], streaming: bool) -> InBand | None:
    return _reported(body) or _flat(body) or _unfinished(body) or _empty(body, streaming)


def _reported(body: Mapping[str, object]) -> InBand | None:
    """An error object, wherever a vendor puts it.  ``"error": null`` is part of many successes."""
    said = _says_something(body.get("error")) or body.get("success") is False
    if said or "error" in (body.get("type"), body.get("object")):
        return InBand(body)
    response = body.get("response")
    inner = response if f.is_object(response) else body if body.get("object") == "response" else None
    if inner is not None and (_says_something(inner.get("error")) or inner.get("status") == "failed"):
        return InBand(inner)
    output = body.get("Output")
    if f.is_object(output) and "__type" in output:
        return InBand(body, K.SERVER_ERROR)
    minimax = body.get("base_resp")
    if f.is_object(minimax) and minimax.get("status_code") not in (0, None):
        return InBand(minimax)
    for choice in f.objects(body.get("choices")):
        if _says_something(choice.get("error")):
            return InBand({"error": choice["error"]})
    return None


def _says_something(error: object) -> bool:
    if f.is_object(error):
        return any(value not in (None, "", 0, False) for value in error.values())
    return bool(error)


def _flat(body: Mapping[str, object]) -> InBand | None:
    """An error without an envelope: ``{"detail": ...}``, ``{"message": ..., "code": ...}``, problem+json."""
    if any(body[key] not in (None, "", [], {}) for key in _ANSWERS & body.keys()):
        return None
    status = body.get("status", body.get("statusCode"))
    failed = isinstance(status, int) and status >= 400
    exception = any(str(key).endswith("Exception") for key in body)
    said = any(body.get(key) for key in ("detail", "msg", "__type", "fault", "errors"))
    said = said or isinstance(body.get("message"), str)  # an object there is an answer (Anthropic, Cohere)
    return InBand(body) if failed or exception or said else None


def _unfinished(body: Mapping[str, object]) -> InBand | None:
    """A finish reason that means failure; of several choices all must have failed."""
    for key in ("response", "delta", "messageStop"):  # stream events carry it one level down
        inner = body.get(key)
        if f.is_object(inner):
            nested = _unfinished(inner)
            if nested is not None:
                return nested
    incomplete = body.get("incomplete_details")
    kept = [body.get(key) for key in ("stop_reason", "stopReason", "finish_reason")]
    if f.is_object(incomplete):
        kept.append(incomplete.get("reason"))
    finished = [choice.get("finish_reason") for choice in f.objects(body.get("choices"))]
    candidates = [item.get("finishReason") for item in f.objects(body.get("candidates"))]
    failed = [_failed(reason) for reason in finished] or [_failed(reason, gemini=True) for reason in candidates]
    kinds = failed or [kind for kind in map(_failed, kept) if kind]
    if kinds and all(kinds):
        return InBand(body, kinds[0])
    if body.get("object") == "response" and body.get("status") == "cancelled":
        return InBand(body, K.CLIENT_CLOSED)
    return None


def _failed(reason: object, *, gemini: bool = False) -> FaultKind | None:
    if not isinstance(reason, str):
        return None
    if gemini and reason == "OTHER":
        return K.SERVER_ERROR
    return _FINISH.get(canonical(reason)) or _KINDS.get(meaning(reason))


def _empty(body: Mapping[str, object], streaming: bool) -> InBand | None:
    feedback = body.get("promptFeedback")
    if f.is_object(feedback) and feedback.get("blockReason") and not body.get("candidates"):
        return InBand(body, K.CONTENT_FILTER)
    # A chunk without choices carries usage or Azure's prompt filter results; an answer without any is none.
    chunk = streaming or body.get("object") in ("chat.completion.chunk", "") or "prompt_filter_results" in body
    empty = not chunk and any(key in body and not body[key] for key in ("choices", "candidates"))
    if empty or (not streaming and body.keys() <= _AROUND_CANDIDATES):  # nothing, or what Gemini says around an answer
        return InBand(body, K.SERVER_ERROR)
    return None
