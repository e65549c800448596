"""Chat Completions answers and errors <-> the neutral model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from resilient_llm import model as m
from resilient_llm.errors import InvalidAnswer
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.reasons import Reasons, calls
from resilient_llm.wire.openai_chat import parts as p

_WORDS: tuple[m.FinishReason, ...] = ("stop", "length", "tool_calls", "content_filter", "error")
REASONS = Reasons({word: word for word in _WORDS}, last="stop")
"""The neutral words are this wire's; ``error`` goes out as it is (OpenRouter's precedent)."""

_BODY = frozenset({"id", "object", "model", "created", "choices", "usage"})
_CHOICE = frozenset({"index", "message", "delta", "finish_reason"})
_MESSAGE = frozenset(
    {"role", "content", "refusal", "tool_calls", "annotations", "reasoning_details", *p.REASONING_FIELDS}
)
_SAID = frozenset({"role", "content"})
_SPEAKING = (*p.REASONING_FIELDS, "refusal", "function_call", "reasoning_details", "audio")
_BARE_CALL = frozenset({"index", "id", "type", "function"})
"""A tool call of these fields alone, and without a function, calls nothing."""
_COUNTED = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_CACHED = frozenset({"cached_tokens", "prompt_cache_hit_tokens", "num_cached_tokens", "cache_read_input_tokens"})

_LEGACY = {"function_call": True}
"""Marks a call that came, and goes back, in the field that ``tool_calls`` replaced."""

CHOICE, MESSAGE = "@choice", "@message"
"""Keys in an answer's Extra for what stood in its (first) choice and in that choice's message."""


def decode_response(fields: f.Fields, dialect: p.Dialect) -> m.ChatResponse:
    """A whole answer.  Raises ``InvalidAnswer`` for one that reports an error, has no choices, or has one that says
    nothing and does not say why either."""
    choices = f.as_objects(fields.get("choices"))
    if fields.get("error"):
        raise InvalidAnswer("the answer reports an error", fields)
    if not choices:
        raise InvalidAnswer("the answer has no choices", fields)
    for choice in choices:
        wrong = _wrong_with(choice)
        if wrong:
            raise InvalidAnswer(f"a choice of the answer {wrong}", fields)
    first = _decode_choice(choices[0], dialect)
    unknown = f.others(fields, _BODY)
    if first.extra is not None:
        unknown |= first.extra.fields
    return m.ChatResponse(
        first.parts,
        first.finish_reason,
        first.raw_finish_reason,
        decode_usage(usage_of(fields)),
        f.as_text(fields.get("id")),
        f.as_text(fields.get("model")),
        f.time_of(fields.get("created")),
        tuple([_decode_choice(choice, dialect) for choice in choices[1:]]) if len(choices) > 1 else (),
        f.extra_of(p.WIRE, unknown),
        fields,
    )


def _wrong_with(choice: f.Fields) -> str:
    """Why a choice is no answer; "" if it is one.  An empty text with a reason to end there is an answer."""
    message = choice.get("message")
    if choice.get("error"):
        return "reports an error"
    if not isinstance(message, dict):
        return "" if choice.get("finish_reason") == "content_filter" else "has no message"
    said = cast(f.Fields, message)
    content, calls = said.get("content"), said.get("tool_calls")
    if content and not calls and isinstance(content, str):  # nearly always
        return ""
    if not is_content(content):
        return "has a content that is neither text nor parts"
    if calls and not all(
        isinstance(call, dict) and is_call(cast(f.Fields, call)) for call in f.as_list(calls) or (None,)
    ):
        return "has a tool call without a function"
    spoke = content or calls or any(said.get(name) for name in _SPEAKING)
    return "" if spoke or choice.get("finish_reason") else "says nothing"


def is_error(frame: Mapping[str, object]) -> bool:
    """Whether a frame is one of an error: marked as one, or no chunk and with something to say (vLLM, FastAPI)."""
    if frame.get("error") or f.as_object(frame.get("base_resp")).get("status_code"):  # the latter is MiniMax's
        return True
    if isinstance(frame.get("choices"), list):
        return False
    said = any(frame.get(name) for name in ("message", "detail", "msg", "errors", "fault"))
    return said or "error" in (frame.get("object"), frame.get("type"))


def is_content(content: object) -> bool:
    """Whether a message's content is of a kind that can be one: text, parts, or nothing."""
    return content is None or isinstance(content, str | list)


def is_call(call: f.Fields) -> bool:
    """Whether anything is called: a function that has a name or arguments, or a tool of the vendor's own kind."""
    function = call.get("function")
    return bool(function and isinstance(function, dict)) or bool(f.others(call, _BARE_CALL))


def _decode_choice(choice: f.Fields, dialect: p.Dialect) -> m.Choice:
    message = f.as_object(choice.get("message"))
    raw = choice.get("finish_reason")
    word = raw if isinstance(raw, str) else None
    parts: list[m.Part] = []
    extra: f.Fields = {}
    if _says_only_text(message):
        parts.append(m.Text(f.as_text(message["content"])))
        reason = REASONS.neutral(word or "stop")
    else:
        more = _decode_message(message, dialect, parts)
        if more:
            extra[MESSAGE] = more
        reason = REASONS.neutral(word or "stop", calls(parts))
    unknown = choice_extra(choice, word, reason)
    if unknown:
        extra[CHOICE] = unknown
    return m.Choice(tuple(parts), reason, word, m.Extra(p.WIRE, extra) if extra else None)


def _decode_message(message: f.Fields, dialect: p.Dialect, parts: list[m.Part]) -> f.Fields:
    """Adds the parts of a message; what else it says is left."""
    annotations = f.as_objects(message.get("annotations"))
    for part in p.assistant_parts(message, dialect.origin):
        if isinstance(part, m.Text) and annotations:
            parts.append(m.Text(part.text, tuple(annotations), part.extra))
            annotations = []
        elif not isinstance(part, m.Text) or part.text:
            parts.append(part)
    called = f.as_object(message.get("function_call"))
    if called.get("name"):  # the form before tools
        name, arguments = f.as_text(called["name"]), f.as_text(called.get("arguments"))
        parts.append(m.ToolCall("call_0", name, arguments, m.Extra(p.WIRE, _LEGACY)))
    more = f.others(message, _MESSAGE | {"function_call"} if called.get("name") else _MESSAGE)
    return f.put(more, annotations=annotations or None)


def _says_only_text(message: f.Fields) -> bool:
    """Whether a message is a text and nothing else, as nearly all are: told apart for its speed alone."""
    content = message.get("content")
    if type(content) is not str or not content:
        return False
    for key, value in message.items():
        if value is not None and key not in _SAID and (value or key not in _MESSAGE):
            return False
    return True


def choice_extra(choice: f.Fields, word: str | None, reason: m.FinishReason) -> f.Fields:
    """What a choice says beyond the answer, a finish word of the vendor's own included."""
    unknown = f.others(choice, _CHOICE)
    if word is not None and word != REASONS.word(reason, None):
        unknown["finish_reason"] = word
    return unknown


def usage_of(fields: Mapping[str, object]) -> f.Fields:
    """Usage, where a vendor puts it (Groq's streams: in ``x_groq``)."""
    return f.as_object(fields.get("usage")) or f.as_object(f.as_object(fields.get("x_groq")).get("usage"))


def decode_usage(usage: f.Fields) -> m.Usage | None:
    """Token counts; ``None`` for an empty object.  Cached tokens are in the details; DeepSeek, Z.ai, Mistral and
    LiteLLM put them beside the others.  xAI counts reasoning apart from the completion, which shows in its total."""
    if not usage:
        return None
    given, made = f.count_of(usage.get("prompt_tokens")), f.count_of(usage.get("completion_tokens"))
    total = f.count_of(usage.get("total_tokens"))
    if usage.keys() <= _COUNTED:
        return m.Usage(given, made, total_tokens=total)
    prompt = f.as_object(usage.get("prompt_tokens_details"))
    completion = f.as_object(usage.get("completion_tokens_details"))
    cached = f.count_of(prompt.get("cached_tokens"))
    if not cached and not _CACHED.isdisjoint(usage):
        cached = max(f.count_of(usage.get(key)) for key in _CACHED)
    thought = f.count_of(completion.get("reasoning_tokens"))
    return m.Usage(
        given,
        made + thought if total == given + made + thought else made,
        cached,
        f.count_of(prompt.get("cache_write_tokens")) or f.count_of(usage.get("cache_creation_input_tokens")),
        thought,
        total,
        m.Extra(p.WIRE, usage) if len(usage) > 3 else None,
    )


def encode_response(response: m.ChatResponse, dialect: p.Dialect) -> f.Fields:
    """The answer as a client of this wire expects it."""
    first = m.Choice(response.parts, response.finish_reason, response.raw_finish_reason, response.extra)
    choices = [_encode_choice(choice, i, dialect) for i, choice in enumerate((first, *response.alternatives))]
    body: f.Fields = {
        "id": response.id or "chatcmpl-0",
        "object": "chat.completion",
        "created": response.created or 0,
        "model": response.model,
        "choices": choices,
    }
    if response.usage is not None:
        body["usage"] = encode_usage(response.usage)
    extra = f.own_fields(response.extra, p.WIRE)
    return body | {key: value for key, value in extra.items() if key not in {CHOICE, MESSAGE}}


def _encode_choice(choice: m.Choice, index: int, dialect: p.Dialect) -> f.Fields:
    extra = f.own_fields(choice.extra, p.WIRE)
    body: f.Fields = {"index": index, "message": _encode_message(choice.parts, dialect), "logprobs": None}
    f.as_object(body["message"]).update(f.as_object(extra.get(MESSAGE)))
    body["finish_reason"] = REASONS.word(choice.finish_reason, None)
    return body | f.as_object(extra.get(CHOICE))


def _encode_message(parts: Sequence[m.Part], dialect: p.Dialect) -> f.Fields:
    texts = [part for part in parts if isinstance(part, m.Text)]
    plain: list[f.Fields] = [{"type": "text", "text": "".join(part.text for part in texts)}] if texts else []
    own = [part for part in parts if isinstance(part, m.Opaque) and part.wire == p.WIRE]
    plain += [dict(part.data) for part in own if not p.is_call(part)]
    message: f.Fields = {"role": "assistant", "refusal": None}
    message |= p.assistant_body(plain, [part for part in parts if isinstance(part, m.Thought)], parts, dialect)
    said = [item for part in texts for item in part.annotations]
    annotations = [dict(item) for item in said if f.is_object(item.get(str(item.get("type"))))]  # of this wire's shape
    f.put(message, annotations=annotations or None)
    calls = [
        p.encode_call(part) | f.own_fields(part.extra, p.WIRE) if isinstance(part, m.ToolCall) else dict(part.data)
        for part in parts
        if isinstance(part, m.ToolCall) or p.is_call(part)
    ]
    if calls and "function_call" in calls[0]:
        message["function_call"] = calls[0]["function"]
    elif calls:
        message["tool_calls"] = calls
    return message


def encode_usage(usage: m.Usage) -> f.Fields:
    """Token counts, over what this wire once said beside them."""
    body = f.own_fields(usage.extra, p.WIRE)
    if decode_usage(body) == usage:
        return body
    f.put(body, prompt_tokens=usage.input_tokens, completion_tokens=usage.output_tokens)
    body["total_tokens"] = usage.total_tokens or usage.input_tokens + usage.output_tokens
    if usage.cache_read_tokens or usage.cache_write_tokens:
        details = f.as_object(body.get("prompt_tokens_details")) | {"cached_tokens": usage.cache_read_tokens}
        body["prompt_tokens_details"] = f.put(details, cache_write_tokens=usage.cache_write_tokens or None)
    if usage.reasoning_tokens:
        details = f.as_object(body.get("completion_tokens_details")) | {"reasoning_tokens": usage.reasoning_tokens}
        body["completion_tokens_details"] = details
    return body
