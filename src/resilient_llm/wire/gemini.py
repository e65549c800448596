"""Gemini's wire: ``generateContent`` and ``streamGenerateContent``, the same on Google's two endpoints.

Model and stream switch are in the path.  A prompt that was blocked is an answer without candidates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import quote, unquote

from resilient_llm.errors import Fault, FaultKind, InvalidAnswer
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Choice,
    EmbedRequest,
    EmbedResponse,
    Extra,
    JsonObject,
    Message,
    OutputFormat,
    Reasoning,
    Role,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from resilient_llm.wire import sse
from resilient_llm.wire._json_codec import JsonCodec
from resilient_llm.wire.codec import JSON_HEADERS, HttpRequest
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump,
    fields_of,
    items_of,
    leftovers,
    merge_own,
    own,
    put,
    reading_answer,
    reading_request,
    request_extras,
    take_bool,
    take_count,
    take_fields,
    take_float,
    take_int,
    take_items,
    take_text,
    take_texts,
    vector,
)
from resilient_llm.wire.gemini_parts import (
    MADE_UP,
    NAME,
    Ids,
    Writing,
    camel,
    decode_parts,
    decode_usage,
    encode_parts,
    encode_shown,
    encode_usage,
    finish_reason,
    finish_word,
    generation,
    json_schema,
    take_finish,
)
from resilient_llm.wire.gemini_stream import StreamDecoder, StreamEncoder, is_blocked
from resilient_llm.wire.notes import Notes, extras_for, fields_for, notes_on
from resilient_llm.wire.toolcalls import Namer, Pairing, offered_tools, tool_names

_PATH = re.compile(r"(?:^|/)(?:(models|tunedModels|endpoints)/)?([^/:?]+):(\w+)")
"""Where a path names its model, whatever stands before it: a version, or a project, a location and a publisher."""

NO_SIGNATURE: Final = "skip_thought_signature_validator"
"""What Gemini 3 accepts for the signature that a call made by another model cannot have."""


# --- requests: reading -------------------------------------------------------------------------------------


def _decode_request(whole: Fields, path: str) -> ChatRequest:
    fields = camel(dict(whole))
    model, stream = _read_path(path)
    model = model or (take_text(fields, "model") or "").removeprefix("models/")
    config = camel(take_fields(fields, "generationConfig") or {})
    tools, others = _decode_tools(take_items(fields, "tools"))
    choice, tool_config = _decode_choice(camel(take_fields(fields, "toolConfig") or {}))
    output, reasoning = _decode_output(config), _decode_thinking(take_fields(config, "thinkingConfig"))
    return ChatRequest(
        (*_decode_system(fields.pop("systemInstruction", None)), *_decode_contents(take_items(fields, "contents"))),
        model,
        tools,
        choice,
        output=output,
        reasoning=reasoning,
        max_tokens=take_int(config, "maxOutputTokens"),
        temperature=take_float(config, "temperature"),
        top_p=take_float(config, "topP"),
        top_k=take_int(config, "topK"),
        frequency_penalty=take_float(config, "frequencyPenalty"),
        presence_penalty=take_float(config, "presencePenalty"),
        seed=take_int(config, "seed"),
        stop=take_texts(config, "stopSequences"),
        n=take_int(config, "candidateCount"),
        logprobs=take_bool(config, "responseLogprobs"),
        top_logprobs=take_int(config, "logprobs"),
        stream=stream,
        extra=_extras(fields, generationConfig=config, tools=others, toolConfig=tool_config),
        source=Extra(NAME, whole),
    )


def _extras(fields: Fields, **more: object) -> tuple[Extra, ...]:
    return request_extras(NAME, {**fields, **{key: value for key, value in more.items() if value}})


def _read_path(path: str) -> tuple[str, bool]:
    """The model and whether a stream is wanted."""
    found = _PATH.search(path)
    if found is None:
        return "", False
    kind, model, method = found.groups()
    name = unquote(model)
    return (name if kind in {None, "models"} else f"{kind}/{name}"), method.startswith("stream")


def _decode_system(value: object) -> tuple[Message, ...]:
    if value is None:
        return ()
    fields: Fields = {"parts": {"text": value}} if isinstance(value, str) else fields_of(value, "systemInstruction")
    parts = decode_parts(take_items(fields, "parts"), _ids(Pairing(MADE_UP)))
    return (Message("system", parts),) if parts else ()


def _ids(pairing: Pairing) -> Ids:
    return Ids(pairing.call, pairing.result)


def _decode_contents(items: list[object]) -> list[Message]:
    ids = _ids(Pairing(MADE_UP))
    return [_decode_content(fields_of(item, "a content"), ids) for item in items]


def _decode_content(fields: Fields, ids: Ids) -> Message:
    said = take_text(fields, "role") or "user"
    parts = decode_parts(take_items(fields, "parts"), ids)
    if said == "function":
        fields["role"] = said  # what "user" was called for results; goes back as it came
    elif said not in {"user", "model"}:
        raise Malformed("a content has no role Gemini knows")
    role: Role = "assistant" if said == "model" else "user"
    if role == "user" and parts and all(isinstance(part, ToolResult) for part in parts):
        role = "tool"
    return Message(role, parts, extra=leftovers(NAME, fields))


def _decode_tools(items: list[object]) -> tuple[tuple[Tool, ...], list[object]]:
    """The functions, and whatever else is among the tools."""
    tools: list[Tool] = []
    others: list[object] = []
    for item in items:
        fields = camel(fields_of(item, "a tool"))
        tools += [
            _decode_tool(camel(fields_of(each, "a function"))) for each in take_items(fields, "functionDeclarations")
        ]
        others += [fields] if fields else []
    return tuple(tools), others


def _decode_tool(fields: Fields) -> Tool:
    name = take_text(fields, "name")
    if not name:
        raise Malformed("a function has no name")
    description = take_text(fields, "description")
    schema, older = take_fields(fields, "parametersJsonSchema"), take_fields(fields, "parameters")
    if schema is None and older is not None:
        schema = fields_of(json_schema(older), "parameters")
        put(fields, parameters=older if schema != older else None)
    return Tool(name, description, schema, extra=leftovers(NAME, fields))


def _decode_choice(config: Fields) -> tuple[ToolChoice | None, Fields]:
    """The choice, and what it does not say: ``VALIDATED`` is ``auto`` with arguments that fit."""
    calling = camel(take_fields(config, "functionCallingConfig") or {})
    kept = dict(calling)
    mode, names = (take_text(calling, "mode") or "").upper(), take_texts(calling, "allowedFunctionNames")
    choice = None
    if mode == "ANY":
        choice, kept = ToolChoice("required", names), calling
    elif mode == "NONE":
        choice, kept = ToolChoice("none"), calling
    elif mode in {"AUTO", "VALIDATED"}:
        choice, kept = ToolChoice("auto"), (calling if mode == "AUTO" and not names else kept)
    return choice, put(config, functionCallingConfig=kept or None)


def _decode_output(config: Fields) -> OutputFormat | None:
    """The shape of the answer; what the neutral model cannot say stays in ``config``."""
    match config.get("responseMimeType"):
        case "text/plain":
            config.pop("responseMimeType")
            return OutputFormat("text")
        case "application/json":
            config.pop("responseMimeType")
        case _:
            return None
    schema, older = take_fields(config, "responseJsonSchema"), take_fields(config, "responseSchema")
    if schema is None and older is not None:
        schema = fields_of(json_schema(older), "responseSchema")
        put(config, responseSchema=older if schema != older else None)
    return OutputFormat("json_object") if schema is None else OutputFormat("json_schema", schema)


def _decode_thinking(fields: Fields | None) -> Reasoning | None:
    if fields is None:
        return None
    fields = camel(fields)
    level, budget = take_text(fields, "thinkingLevel"), take_int(fields, "thinkingBudget")
    if budget == -1:  # the model decides, which is no number of tokens
        fields["thinkingBudget"], budget = -1, None
    effort = level.lower() if level else "none" if budget == 0 else None
    return Reasoning(effort, budget, leftovers(NAME, fields))


# --- requests: writing -------------------------------------------------------------------------------------


def _encode_request(request: ChatRequest) -> HttpRequest:
    path = _path(request.model, "streamGenerateContent?alt=sse" if request.stream else "generateContent")
    if request.source is not None and request.source.wire == NAME:
        return HttpRequest(path, dump(_forwarded(request, request.source.fields)), JSON_HEADERS)
    notes = notes_on(request, NAME, "parallel_tool_calls")
    writing = Writing(request.model, tool_names(request.messages), notes)
    body = _encode_turns(request.messages, writing)
    put(body, tools=_encode_tools(_offered(request, notes), notes), toolConfig=_encode_choice(request.tool_choice))
    put(body, generationConfig=_encode_config(request, notes) or None)
    merge_own(body, request.extra, NAME)
    config = body.get("generationConfig")
    if isinstance(config, dict) and "responseSchema" in config:
        cast("Fields", config).pop("responseJsonSchema", None)  # one or the other
    return HttpRequest(path, dump(body), JSON_HEADERS, notes.all())


def _path(model: str, method: str) -> str:
    name = model if "/" in model else f"models/{model}"
    return f"/{quote(name, errors='replace')}:{method}"


def _forwarded(request: ChatRequest, source: JsonObject) -> Fields:
    """The caller's own body; only calls of another model's making get what Gemini 3 cannot do without."""
    body = dict(source)
    if "model" in body:
        body["model"] = f"models/{request.model}"
    if generation(request.model) >= 3:
        contents = [fields_of(item, "a content") for item in take_items(dict(body), "contents")]
        for content in contents:
            parts = [fields_of(part, "a part") for part in take_items(content, "parts")]
            content["parts"] = parts
            sign_calls(parts)
        body["contents"] = contents
    return body


def sign_calls(parts: list[Fields]) -> bool:
    """Put :data:`NO_SIGNATURE` on the first call of a turn that has calls but no signature; whether it was needed."""
    calls = [part for part in parts if "functionCall" in part or "function_call" in part]
    if not calls or any("thoughtSignature" in call or "thought_signature" in call for call in calls):
        return False
    calls[0]["thoughtSignature"] = NO_SIGNATURE
    return True


def _encode_turns(messages: tuple[Message, ...], writing: Writing) -> Fields:
    """Contents, and the system messages, which go before them all.

    Results of parallel calls belong into one turn, however many messages hold them.
    """
    system: list[Fields] = []
    contents: list[Fields] = []
    results: list[Fields] | None = None  # parts of the last turn, if it holds results only
    for message in messages:
        parts = encode_parts(message.parts, writing)
        fields_for(NAME, message.extra, writing.notes)
        if message.role in {"system", "developer"}:
            if contents:
                writing.notes.add("system_position", "moved before the conversation")
            system += parts
        elif message.role == "tool" and results is not None:
            results += parts
        elif parts:
            contents.append(_encode_turn(message, parts, writing))
            results = parts if message.role == "tool" else None
    return put({"contents": contents}, systemInstruction={"parts": system} if system else None)


def _encode_turn(message: Message, parts: list[Fields], writing: Writing) -> Fields:
    role = "model" if message.role == "assistant" else "user"
    if role == "model" and generation(writing.model) >= 3 and sign_calls(parts):
        writing.notes.add("thought_signature", "the check was skipped: another model made the call")
    return {"role": role, "parts": parts, **own(message.extra, NAME)}


def _offered(request: ChatRequest, notes: Notes) -> tuple[Tool, ...]:
    """Names can be listed here if one of them must be called."""
    choice = request.tool_choice
    listed = choice is not None and choice.mode == "required"
    return request.tools if listed else offered_tools(request, notes)


def _encode_tools(tools: tuple[Tool, ...], notes: Notes) -> list[Fields] | None:
    if any(tool.strict for tool in tools):
        notes.add("tool.strict", "left out")
    extras_for(NAME, (tool.extra for tool in tools), notes)
    return [{"functionDeclarations": [_encode_tool(tool) for tool in tools]}] if tools else None


def _encode_tool(tool: Tool) -> Fields:
    extra = own(tool.extra, NAME)
    schema = None if "parameters" in extra else tool.parameters
    return put({"name": tool.name}, description=tool.description, parametersJsonSchema=schema, **extra)


def _encode_choice(choice: ToolChoice | None) -> Fields | None:
    if choice is None:
        return None
    mode = {"auto": "AUTO", "none": "NONE", "required": "ANY"}[choice.mode]
    names = list(choice.names) if mode == "ANY" else None
    return {"functionCallingConfig": put({"mode": mode}, allowedFunctionNames=names or None)}


def _encode_config(request: ChatRequest, notes: Notes) -> Fields:
    return put(
        _encode_output(request.output),
        temperature=request.temperature,
        topP=request.top_p,
        topK=request.top_k,
        candidateCount=request.n,
        maxOutputTokens=request.max_tokens,
        stopSequences=list(request.stop) or None,
        seed=request.seed,
        presencePenalty=request.presence_penalty,
        frequencyPenalty=request.frequency_penalty,
        responseLogprobs=request.logprobs,
        logprobs=request.top_logprobs,
        thinkingConfig=_encode_thinking(request.reasoning, request.model, notes),
    )


def _encode_output(output: OutputFormat | None) -> Fields:
    if output is None:
        return {}
    if output.kind == "text":
        return {"responseMimeType": "text/plain"}
    return put({"responseMimeType": "application/json"}, responseJsonSchema=output.schema)


_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576, "max": 24576}
"""Thinking tokens for models that have no levels, as Google's own endpoint for OpenAI's clients translates them."""

_LEVELS = {"minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM", "high": "HIGH", "xhigh": "XHIGH", "max": "XHIGH"}


def _encode_thinking(reasoning: Reasoning | None, model: str, notes: Notes) -> Fields | None:
    if reasoning is None:
        return None
    fields = fields_for(NAME, reasoning.extra, notes)
    effort, budget = reasoning.effort, reasoning.budget
    if budget is not None and effort in {None, "none"}:
        return {"thinkingBudget": budget, **fields}
    if effort is None:
        return fields
    if generation(model) >= 3 or not model:
        return {"thinkingLevel": _level(effort, model, notes), **fields}
    if effort == "none" or budget is not None:
        return {"thinkingBudget": budget or 0, **fields}
    notes.add("reasoning.effort", f"{effort} sent as a budget of {_BUDGETS.get(effort, 8192)} tokens")
    return {"thinkingBudget": _BUDGETS.get(effort, 8192), **fields}


def _level(effort: str, model: str, notes: Notes) -> str:
    """Levels replaced budgets; none of them is "none", and the Pro models have no "minimal" either."""
    lowest = "LOW" if "-pro" in model else "MINIMAL"
    level = lowest if effort in {"none", "minimal"} else _LEVELS.get(effort, "MEDIUM")
    if level != effort.upper():
        notes.add("reasoning.effort", f"{effort} sent as {level.lower()}")
    return level


# --- answers -----------------------------------------------------------------------------------------------


def _decode_response(raw: Fields) -> ChatResponse:
    fields = camel(dict(raw))
    id_, model = take_text(fields, "responseId") or "", take_text(fields, "modelVersion") or ""
    counted = take_fields(fields, "usageMetadata")
    usage = decode_usage(counted) if counted is not None else None
    namer = Namer(MADE_UP, id_)
    choices = [_decode_candidate(fields_of(item, "a candidate"), namer) for item in take_items(fields, "candidates")]
    if not choices:
        return ChatResponse(
            (), "content_filter", _blocked(fields, raw), usage, id_, model, extra=leftovers(NAME, fields)
        )
    first, *others = choices
    if not first.parts and first.raw_finish_reason is None:
        raise InvalidAnswer("the answer says nothing and does not say why", raw)
    return ChatResponse(
        first.parts,
        first.finish_reason,
        first.raw_finish_reason,
        usage,
        id_,
        model,
        alternatives=tuple(others),
        extra=leftovers(NAME, {**fields, **own(first.extra, NAME)}),
        raw=raw,
    )


def _blocked(fields: Fields, raw: Fields) -> str:
    """Why there are no candidates.  Raises ``InvalidAnswer`` if not because the prompt was blocked."""
    feedback = fields.get("promptFeedback")
    reason = take_text(camel(fields_of(feedback, "promptFeedback")), "blockReason") if feedback is not None else None
    if reason is None:
        raise InvalidAnswer("the answer has no candidates", raw)
    return reason


def _decode_candidate(value: Fields, namer: Namer) -> Choice:
    fields = camel(value)
    content = take_fields(fields, "content") or {}
    parts = decode_parts(take_items(content, "parts"), Ids(namer, Pairing(MADE_UP).result))
    raw = take_finish(fields)
    reason = finish_reason(raw, any(isinstance(part, ToolCall) for part in parts))
    return Choice(parts, reason, raw, leftovers(NAME, {"candidate": fields} if fields else {}))


def _encode_response(response: ChatResponse) -> Fields:
    rest = own(response.extra, NAME)
    first = Choice(response.parts, response.finish_reason, response.raw_finish_reason, response.extra)
    body: Fields = {}
    if not is_blocked(rest):
        choices = [first, *response.alternatives]
        body["candidates"] = [_encode_candidate(choice, index) for index, choice in enumerate(choices)]
    rest.pop("candidate", None)
    put(body, usageMetadata=encode_usage(response.usage))
    put(body, modelVersion=response.model or None, responseId=response.id or None)
    return {**body, **rest}


def _encode_candidate(choice: Choice, index: int) -> Fields:
    content = put({"role": "model"}, parts=encode_shown(choice.parts) or None)
    more = fields_of(own(choice.extra, NAME).get("candidate") or {}, "candidate")
    unsaid_reason = choice.finish_reason == "other" and choice.raw_finish_reason is None
    word = None if unsaid_reason else finish_word(choice.finish_reason, choice.raw_finish_reason)
    return {**put({"content": content}, finishReason=word), "index": index, **more}


_ERRORS: Mapping[FaultKind, tuple[int, str]] = {
    FaultKind.RATE_LIMITED: (429, "RESOURCE_EXHAUSTED"),
    FaultKind.QUOTA_EXHAUSTED: (429, "RESOURCE_EXHAUSTED"),
    FaultKind.OVERLOADED: (503, "UNAVAILABLE"),
    FaultKind.CONNECTION: (503, "UNAVAILABLE"),
    FaultKind.TIMEOUT: (504, "DEADLINE_EXCEEDED"),
    FaultKind.AUTH: (401, "UNAUTHENTICATED"),
    FaultKind.PERMISSION: (403, "PERMISSION_DENIED"),
    FaultKind.NOT_FOUND_MODEL: (404, "NOT_FOUND"),
    FaultKind.BAD_REQUEST: (400, "INVALID_ARGUMENT"),
    FaultKind.CONTEXT_LENGTH: (400, "INVALID_ARGUMENT"),
    FaultKind.PAYLOAD_TOO_LARGE: (413, "INVALID_ARGUMENT"),
    FaultKind.CONTENT_FILTER: (400, "INVALID_ARGUMENT"),
    FaultKind.CONFLICT: (409, "ABORTED"),
    FaultKind.CLIENT_CLOSED: (499, "CANCELLED"),
    FaultKind.UNSUPPORTED: (400, "FAILED_PRECONDITION"),
}


def _encode_error(fault: Fault, message: str) -> Fields:
    """An error object; this wire's hint when to come back is in the body."""
    code, status = _ERRORS.get(fault.kind, (500, "INTERNAL"))
    error: Fields = {"code": code, "message": message, "status": status}
    if fault.retry_after is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error["details"] = [{"@type": kind, "retryDelay": f"{fault.retry_after:.3f}s"}]
    return {"error": error}


# --- embeddings --------------------------------------------------------------------------------------------


def decode_embed_request(body: bytes, path: str = "") -> EmbedRequest:
    """A request to ``embedContent`` or ``batchEmbedContents``.

    Raises ``InvalidRequest``, also for a batch whose items differ in more than their text.
    """

    def read(whole: Fields) -> EmbedRequest:
        items = items_of(whole["requests"], "requests") if "requests" in whole else [whole]
        each = [_decode_embedding(fields_of(item, "a request"), path) for item in items]
        first = each[0] if each else EmbedRequest((), _read_path(path)[0])
        if any((one.model, one.dimensions, one.extra) != (first.model, first.dimensions, first.extra) for one in each):
            raise Malformed("the requests of a batch differ in more than their text")
        return EmbedRequest(tuple(one.inputs[0] for one in each), first.model, first.dimensions, first.extra)

    return reading_request(NAME, body, read)


def _decode_embedding(item: Fields, path: str) -> EmbedRequest:
    fields = camel(item)
    model = (take_text(fields, "model") or "").removeprefix("models/") or _read_path(path)[0]
    parts = [fields_of(part, "a part") for part in take_items(take_fields(fields, "content") or {}, "parts")]
    texts = [take_text(part, "text") for part in parts]
    if not texts or None in texts:
        raise Malformed("only text can be embedded")
    dimensions = take_int(fields, "outputDimensionality")
    return EmbedRequest(("".join(cast("list[str]", texts)),), model, dimensions, _extras(fields))


def encode_embed_request(request: EmbedRequest) -> HttpRequest:
    """The request for ``batchEmbedContents``."""
    notes = Notes(NAME)
    extras_for(NAME, request.extra, notes)
    more: Fields = put({"model": f"models/{request.model}"}, outputDimensionality=request.dimensions)
    merge_own(more, request.extra, NAME)
    requests = [{"content": {"parts": [{"text": text}]}, **more} for text in request.inputs]
    path = _path(request.model, "batchEmbedContents")
    return HttpRequest(path, dump({"requests": requests}), JSON_HEADERS, notes.all())


def decode_embed_response(body: bytes) -> EmbedResponse:
    """The vectors, of one text or of a batch.  Raises ``InvalidAnswer``."""

    def read(raw: Fields) -> EmbedResponse:
        fields = camel(dict(raw))
        one = fields.get("embedding")
        items = items_of(fields.get("embeddings"), "embeddings") if one is None else [one]
        vectors = tuple(vector(fields_of(item, "an embedding").get("values")) for item in items)
        counted = camel(take_fields(fields, "usageMetadata") or {})
        count = take_count(counted, "promptTokenCount")
        return EmbedResponse(vectors, usage=Usage(count) if count else None, raw=raw)

    return reading_answer(NAME, body, read)


def encode_embed_response(response: EmbedResponse, single: bool = False) -> bytes:
    """The vectors as a client of ``batchEmbedContents`` expects them, or of ``embedContent`` (``single``)."""
    vectors = [{"values": list(each)} for each in response.vectors]
    body: Fields = {"embedding": vectors[0]} if single and vectors else {"embeddings": vectors}
    counts = {"promptTokenCount": response.usage.input_tokens} if response.usage else None
    return dump(put(body, usageMetadata=counts))


# --- the codec ---------------------------------------------------------------------------------------------


CODEC: Final = JsonCodec(
    name=NAME,
    read_request=_decode_request,
    write_request=_encode_request,
    read_answer=_decode_response,
    write_answer=_encode_response,
    write_error=_encode_error,
    write_stream_error=lambda fault, message: sse.encode(dump(_encode_error(fault, message))),
    stream_decoder=StreamDecoder,
    make_stream_encoder=StreamEncoder,
)
