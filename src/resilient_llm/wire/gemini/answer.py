"""Gemini: whole answers and errors, in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from resilient_llm.errors import Fault, FaultKind, InvalidAnswer
from resilient_llm.model import ChatResponse, Choice, Extra
from resilient_llm.wire.gemini import parts as p
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.reasons import calls
from resilient_llm.wire.kit.tools import Namer


def decode_response(raw: f.Fields) -> ChatResponse:
    fields = p.camel(dict(raw))
    id_, model = f.take_text(fields, "responseId") or "", f.take_text(fields, "modelVersion") or ""
    counted = f.take_object(fields, "usageMetadata")
    usage = p.decode_usage(counted) if counted is not None else None
    namer = Namer(p.MADE_UP, id_)
    choices = [_decode_candidate(f.object_of(item, "a candidate"), namer) for item in f.take_list(fields, "candidates")]
    if not choices:
        feedback = p.camel(f.object_of(fields.get("promptFeedback") or {}, "promptFeedback"))
        reason, extra = f.take_text(feedback, "blockReason"), f.unread(p.WIRE, fields)
        if reason is None:
            raise InvalidAnswer("the answer has no candidates", raw)
        return ChatResponse((), "content_filter", reason, usage, id_, model, extra=extra)
    first, *remaining = choices
    if not first.parts and first.raw_finish_reason is None:
        raise InvalidAnswer("the answer says nothing and does not say why", raw)
    return ChatResponse(
        first.parts,
        first.finish_reason,
        first.raw_finish_reason,
        usage,
        id_,
        model,
        alternatives=tuple(remaining),
        extra=f.unread(p.WIRE, {**fields, **f.own_fields(first.extra, p.WIRE)}),
        raw=raw,
    )


def rest_of(response: ChatResponse) -> Extra | None:
    """What is to be said beside the same request to get the rest of an answer that the vendor divided; ``None``: it is
    whole."""
    candidate = f.as_object(f.own_fields(response.extra, p.WIRE).get("candidate"))
    token = f.as_text(candidate.get(p.TOKEN)) if response.raw_finish_reason == p.DIVIDED else ""
    return Extra(p.WIRE, {p.TOKEN: token}) if token else None


def _decode_candidate(value: f.Fields, namer: Namer) -> Choice:
    fields = p.camel(value)
    content = f.take_object(fields, "content") or {}
    parts = p.decode_parts(f.take_list(content, "parts"), namer)
    raw = p.take_finish(fields)
    reason = p.REASONS.neutral(raw, calls(parts))
    return Choice(parts, reason, raw, f.unread(p.WIRE, {"candidate": fields} if fields else {}))


def encode_response(response: ChatResponse) -> f.Fields:
    rest = f.own_fields(response.extra, p.WIRE)
    first = Choice(response.parts, response.finish_reason, response.raw_finish_reason, response.extra)
    body: f.Fields = {}
    if not is_blocked(rest):
        choices = [first, *response.alternatives]
        body["candidates"] = [_encode_candidate(choice, index) for index, choice in enumerate(choices)]
    rest.pop("candidate", None)
    f.put(body, usageMetadata=p.encode_usage(response.usage), modelVersion=response.model or None)
    return {**f.put(body, responseId=response.id or None), **rest}


def _encode_candidate(choice: Choice, index: int) -> f.Fields:
    content = f.put({"role": "model"}, parts=p.encode_shown(choice.parts) or None)
    more = f.object_of(f.own_fields(choice.extra, p.WIRE).get("candidate") or {}, "candidate")
    unsaid_reason = choice.finish_reason == "other" and choice.raw_finish_reason is None
    word = None if unsaid_reason else p.REASONS.word(choice.finish_reason, choice.raw_finish_reason)
    return {**f.put({"content": content}, finishReason=word), "index": index, **more}


_ERRORS: Mapping[FaultKind, tuple[int, str]] = {
    **dict.fromkeys((FaultKind.RATE_LIMITED, FaultKind.QUOTA_EXHAUSTED), (429, "RESOURCE_EXHAUSTED")),
    **dict.fromkeys((FaultKind.OVERLOADED, FaultKind.CONNECTION), (503, "UNAVAILABLE")),
    FaultKind.TIMEOUT: (504, "DEADLINE_EXCEEDED"),
    FaultKind.AUTH: (401, "UNAUTHENTICATED"),
    FaultKind.PERMISSION: (403, "PERMISSION_DENIED"),
    FaultKind.NOT_FOUND_MODEL: (404, "NOT_FOUND"),
    **dict.fromkeys((FaultKind.BAD_REQUEST, FaultKind.CONTEXT_LENGTH), (400, "INVALID_ARGUMENT")),
    **dict.fromkeys((FaultKind.CONTENT_FILTER, FaultKind.SEALED_REASONING), (400, "INVALID_ARGUMENT")),
    FaultKind.PAYLOAD_TOO_LARGE: (413, "INVALID_ARGUMENT"),
    FaultKind.CONFLICT: (409, "ABORTED"),
    FaultKind.CLIENT_CLOSED: (499, "CANCELLED"),
    FaultKind.UNSUPPORTED: (400, "FAILED_PRECONDITION"),
}


def encode_error(fault: Fault, message: str) -> f.Fields:
    """An error object; this wire's hint when to come back is in the body."""
    code, status = _ERRORS.get(fault.kind, (500, "INTERNAL"))
    error: f.Fields = {"code": code, "message": message, "status": status}
    if fault.retry_after is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error["details"] = [{"@type": kind, "retryDelay": f"{fault.retry_after:.3f}s"}]
    return {"error": error}


def is_blocked(rest: f.Fields) -> bool:
    """Whether the prompt was blocked, so that there are no candidates."""
    feedback = rest.get("promptFeedback")
    return isinstance(feedback, dict) and "blockReason" in feedback
