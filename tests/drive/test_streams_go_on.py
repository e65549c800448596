"""A stream that breaks after content goes on in the way that was chosen, or ends as it would have."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from resilient_llm.errors import ConfigurationError, FaultKind, InvalidRequest, StreamInterrupted
from resilient_llm.model import Continued, Degradation, Finish, Restarted, StreamEnd, StreamStart, TextDelta, ToolCall
from resilient_llm.policy import Stream
from resilient_llm.providers import Anthropic, Gemini, Mistral, OpenAI, OpenAIResponses
from resilient_llm.testing import Cut, Hang, LoopbackLLM, Raw, Reply, Stall, Status
from tests.drive.clients import Client, World, openai

BREAKS = Reply("one two three four", fault=Cut(2))
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
CALL = b'{"index":0,"id":"c1","type":"function","function":{"name":"look","arguments":%s}}'
OTHER = b'{"index":1,"id":"c2","type":"function","function":{"name":"look","arguments":"{"}}'
KINDS: dict[str, Any] = {"openai": (OpenAI, "/v1"), "mistral": (Mistral, "/v1"), "anthropic": (Anthropic, "")}


def chunk(delta: bytes) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":%b}]}\n\n' % delta


def pair(world: World, first: Any, second: Any, kind: str = "openai", **settings: Any) -> tuple[Client, LoopbackLLM]:
    """A client whose first provider breaks, and the server of its second one, of this kind."""
    one, two = world.server(first), world.server(second)
    made, path = KINDS[kind]
    model = settings.pop("model", "second")
    other = made(model, id="second", base_url=two.url + path, api_key="k")
    return world.client([openai(one, "first"), other], **settings), two


def body_of(server: LoopbackLLM, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.requests[index].body)
    return found


def test_a_restart_makes_what_came_before_void(world: World) -> None:
    client, _ = pair(world, BREAKS, Reply("five six"))
    stream = client.stream(on_break="restart")
    events = list(stream)
    kinds = [type(event) for event in events]
    at = kinds.index(Restarted)
    assert [event.text for event in events[:at] if isinstance(event, TextDelta)] == ["one ", "two "]
    assert "".join(event.text for event in events[at:] if isinstance(event, TextDelta)) == "five six"
    assert (kinds.count(Restarted), kinds.count(StreamEnd), events[at + 1]) == (
        1,
        1,
        StreamStart("chatcmpl-loopback", "second", 1700000000),
    )
    response = stream.response
    assert (response.text, response.provider, response.finish_reason) == ("five six", "second", "stop")
    assert [record.outcome for record in response.attempts] == ["error", "success"]


def test_the_tokens_of_all_attempts_are_summed_and_said_to_be_estimated(world: World) -> None:
    client, _ = pair(world, BREAKS, Reply("five six"))
    stream = client.stream("x" * 40, on_break="restart")
    list(stream)
    usage = stream.response.usage
    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.estimated) == (10 + 10, 2 + 2, True)


def test_an_answer_goes_on_at_a_provider_that_takes_its_beginning(world: World) -> None:
    client, second = pair(world, BREAKS, Reply("three four"), "mistral")
    stream = client.stream(on_break="continue", max_tokens=100)
    events = list(stream)
    assert "".join(getattr(event, "text", "") for event in events) == "one two three four"
    assert [type(event) for event in events].count(StreamStart) == 1
    assert [event.provider for event in events if isinstance(event, Continued)] == ["second"]
    assert {event.block for event in events if isinstance(event, TextDelta)} == {0}
    asked = body_of(second)
    assert asked["messages"][-1] == {"role": "assistant", "content": "one two", "prefix": True}
    assert asked["max_tokens"] == 98
    assert stream.response.text == "one two three four"
    assert Degradation("stream", "continued after a break, by prefill") in stream.response.degradations


def test_an_echo_is_left_out(world: World) -> None:
    client, _ = pair(world, BREAKS, Reply("one two three four"), "mistral")
    assert client.stream(on_break="continue").text() == "one two three four"


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_who_cannot_take_a_beginning_is_not_asked(world: World, kind: str) -> None:
    client, second = pair(world, BREAKS, Reply("three four"), kind, model="claude-sonnet-5")
    with pytest.raises(StreamInterrupted, match="nobody can go on") as caught:
        client.stream(on_break="continue").text()
    assert second.request_count == 0
    assert caught.value.partial.text == "one two "
    assert caught.value.fault is not None
    assert caught.value.fault.kind is FaultKind.CONNECTION


def test_an_older_claude_takes_it(world: World) -> None:
    client, second = pair(world, BREAKS, Reply("three four"), "anthropic", model="claude-sonnet-4-5")
    assert client.stream(on_break="continue").text() == "one two three four"
    assert body_of(second)["messages"][-1] == {"role": "assistant", "content": "one two"}


def test_others_are_told_to_write_on_only_if_asked_to(world: World) -> None:
    client, second = pair(world, BREAKS, Reply("three four"))
    assert client.stream(on_break="instruct").text() == "one two three four"
    answer, told = body_of(second)["messages"][-2:]
    assert (answer["role"], answer["content"], told["role"]) == ("assistant", "one two ", "user")
    assert json.dumps("one two ") in told["content"]


def test_what_is_repeated_after_an_instruction_is_left_out(world: World) -> None:
    begun = "It was the best of times, it was "
    client, _ = pair(world, Reply(begun + "x", pieces=(begun, "x"), fault=Cut(1)), Reply("times, it was the worst"))
    assert client.stream(on_break="instruct").text() == begun + "the worst"


def test_the_same_model_may_repeat_itself_unseen(world: World) -> None:
    client, second = pair(world, BREAKS, Reply("one two three four"), model="first")
    events = list(client.stream(on_break="verify", temperature=0))
    assert "".join(getattr(event, "text", "") for event in events) == "one two three four"
    assert body_of(second)["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("again", "options"),
    [("one three four", {"temperature": 0}), ("one", {"seed": 1}), ("one two three four", {})],
    ids=["another answer", "a shorter one", "no reason to repeat itself"],
)
def test_what_it_does_not_repeat_ends_the_stream(world: World, again: str, options: dict[str, Any]) -> None:
    client, second = pair(world, BREAKS, Reply(again), model="first")
    stream = client.stream(on_break="verify", **options)
    seen: list[str] = []
    with pytest.raises(StreamInterrupted) as caught:
        seen.extend(getattr(event, "text", "") for event in stream)
    assert "".join(seen) == caught.value.partial.text == "one two "
    assert second.request_count == bool(options)
    assert client.health()["second"].breaker == "closed"


def test_another_model_is_not_asked_to_repeat_it(world: World) -> None:
    retry = {"max_attempts_per_provider": 1}
    client, second = pair(world, BREAKS, Reply("one two three four"), retry=retry)
    with pytest.raises(StreamInterrupted):
        client.stream(on_break="verify", temperature=0).text()
    assert second.request_count == 0


@pytest.mark.parametrize("on_break", ["continue", "instruct", "verify"])
def test_complete_tool_calls_are_kept_and_half_ones_dropped(world: World, on_break: str) -> None:
    whole = chunk(b'{"tool_calls":[' + CALL % b'"{\\"a\\":1}"' + b"]}")
    half = chunk(b'{"tool_calls":[' + OTHER + b"]}")
    client, second = pair(world, Raw((HEAD, chunk(b'{"content":"Let me see."}'), whole, half)), Reply("three"))
    stream = client.stream(on_break=on_break, tools=[{"name": "look", "parameters": {"type": "object"}}])
    list(stream)
    response = stream.response
    assert response.tool_calls == (ToolCall("c1", "look", '{"a":1}'),)
    assert (response.finish_reason, response.text, second.request_count) == ("tool_calls", "Let me see.", 0)
    assert response.usage is not None
    assert response.usage.estimated


def test_half_a_tool_call_was_never_seen_so_that_the_text_goes_on(world: World) -> None:
    half = chunk(b'{"tool_calls":[' + CALL % b'"{"' + b"]}")
    client, second = pair(world, Raw((HEAD, chunk(b'{"content":"Let me see."}'), half)), Reply(" There."), "mistral")
    stream = client.stream(on_break="continue", tools=[{"name": "look", "parameters": {"type": "object"}}])
    assert stream.text() == "Let me see. There."
    assert stream.response.tool_calls == ()
    assert body_of(second)["messages"][-1]["content"] == "Let me see."


NOT_WRITTEN_ON: dict[str, dict[str, Any]] = {
    "structured output": {"output": "json_object"},
    "a forced tool": {"tools": [{"name": "f"}], "tool_choice": "required"},
    "several answers": {"n": 2},
    "hardly any tokens left": {"max_tokens": 10},
    "a prefilled answer": {"messages": [("user", "hi"), ("assistant", "Well,")]},
}


@pytest.mark.parametrize("case", NOT_WRITTEN_ON)
def test_what_another_model_cannot_write_on_breaks_as_ever(world: World, case: str) -> None:
    client, second = pair(world, BREAKS, Reply("three four"), "mistral")
    options = dict(NOT_WRITTEN_ON[case])
    with pytest.raises(StreamInterrupted, match=r"broke after content: .* \(.*\)"):
        client.stream(options.pop("messages", "hi"), on_break="continue", **options).text()
    assert second.request_count == 0


def test_a_stream_may_break_again_and_again(world: World) -> None:
    first, second = world.server(BREAKS), world.server(Reply("three four", fault=Cut(1)), Reply("four five"))
    other = Mistral("second", base_url=second.url + "/v1", api_key="k")
    client = world.client([openai(first, "first"), other], retry={"backoff_base": 0.01})
    stream = client.stream(on_break="continue")
    assert stream.text() == "one two three four five"
    assert len(stream.response.attempts) == 3


def test_a_restart_that_nobody_takes_on_ends_with_what_there_was(world: World) -> None:
    one = world.server(BREAKS, default=Status(500))
    client = world.client([openai(one, "first")], retry={"max_attempts": 2, "backoff_base": 0.01})
    with pytest.raises(StreamInterrupted, match="nobody can go on") as caught:
        client.stream(on_break="restart").text()
    assert caught.value.partial.text == "one two "
    assert [record.outcome for record in caught.value.attempts] == ["error", "error"]
    assert client.in_flight() == 0


def test_a_filtered_answer_is_not_asked_for_again(world: World) -> None:
    error = b'data: {"error":{"code":"content_filter","message":"blocked","type":"invalid_request_error"}}\n\n'
    client, second = pair(world, Raw((HEAD, chunk(b'{"content":"one two"}'), error), interval=0.02), Reply("x"))
    with pytest.raises(StreamInterrupted):
        client.stream(on_break="restart").text()
    assert second.request_count == 0


def test_a_stall_is_a_break_like_any_other(world: World) -> None:
    client, _ = pair(
        world, Reply("one two", fault=Stall(1)), Reply("three"), stream={"on_break": "restart"}, timeouts={"idle": 0.1}
    )
    stream = client.stream()
    list(stream)
    assert stream.response.text == "three"


def test_a_conversation_stays_where_it_went_on(world: World) -> None:
    first, second = world.server(Reply("hello"), BREAKS), world.server()
    client = world.client([[openai(first, "first"), openai(second, "second")]])
    client.chat("first of all", conversation="c", providers=["first"])
    stream = client.stream("then", conversation="c", on_break="restart")
    list(stream)
    assert [record.provider for record in stream.response.attempts] == ["first", "second"]
    assert client.chat("and now?", conversation="c").provider == "second"


def test_leaving_while_another_answers_is_blamed_on_nobody(world: World) -> None:
    client, second = pair(world, BREAKS, Reply("five six seven", interval=0.01))
    with client.stream(on_break="restart") as stream:
        for event in stream:
            if isinstance(event, Restarted):
                break
    second.wait_for(lambda server: server.open_connections == 0)
    assert client.in_flight() == 0
    assert client.health()["second"].breaker == "closed"


def test_a_break_is_raised_unless_something_else_was_chosen(world: World) -> None:
    client, second = pair(world, BREAKS, Reply("x"))
    with pytest.raises(StreamInterrupted):
        client.stream().text()
    with pytest.raises(InvalidRequest, match="on_break must be 'fail', 'restart'"):
        client.stream(on_break="retry")
    with pytest.raises(ConfigurationError, match=r"Stream\.on_break must be one of"):
        Stream(on_break="retry")  # type: ignore[arg-type]
    assert second.request_count == 0


# --- whole answers put together from streams ---------------------------------------------------------------

GATHER = {"under_chat": "stream"}


def test_a_whole_answer_can_be_put_together_from_a_stream(world: World) -> None:
    server = world.server(Reply("one two three"))
    client = world.client([openai(server)], stream=GATHER)
    answer = client.chat()
    assert (answer.text, answer.finish_reason, answer.provider) == ("one two three", "stop", "first")
    assert answer.usage is not None
    assert answer.usage.output_tokens == 3
    assert body_of(server)["stream"] is True


def test_its_break_is_an_attempt_that_failed(world: World) -> None:
    client, _ = pair(world, BREAKS, Reply("five six"), stream=GATHER)
    answer = client.chat()
    assert (answer.text, [record.outcome for record in answer.attempts]) == ("five six", ["error", "success"])


def test_silence_in_the_middle_of_it_does_not_take_as_long_as_a_whole_answer_may(world: World) -> None:
    client, _ = pair(world, Reply("one two", fault=Stall(1)), Reply("three"), stream=GATHER, timeouts={"idle": 0.1})
    began = time.monotonic()
    assert client.chat().text == "three"
    assert time.monotonic() - began < 5


def test_it_may_take_longer_than_its_first_token_may(world: World) -> None:
    server = world.server(Reply("one two three four five", interval=0.08))
    client = world.client([openai(server)], stream=GATHER, timeouts={"first_token": 0.25}, retry={"max_attempts": 1})
    assert client.chat().text == "one two three four five"


def test_one_silent_from_the_start_is_rescued(world: World) -> None:
    client, _ = pair(world, Hang(), Reply("three"), stream=GATHER)
    assert client.chat(deadline=0.8).text == "three"


def test_what_a_check_rejects_moves_on(world: World) -> None:
    client, _ = pair(world, Reply("one two"), Reply("three"), stream=GATHER)
    assert client.chat(validate=lambda response: response.text == "three").text == "three"


def test_what_came_of_it_is_on_the_error(world: World) -> None:
    one = world.server(BREAKS, default=Status(500))
    client = world.client([openai(one)], stream=GATHER, retry={"max_attempts": 2, "backoff_base": 0.01})
    with pytest.raises(StreamInterrupted) as caught:
        client.chat()
    assert caught.value.partial.text == "one two "


# --- the provider keeps the rest ---------------------------------------------------------------------------


def responses_stream() -> list[bytes]:
    """A background response: each event with its number."""
    about = {"id": "resp_1", "model": "m", "created_at": 1, "status": "in_progress", "output": [], "background": True}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
    said = {"type": "output_text", "text": "one two three", "annotations": []}
    done = {**item, "status": "completed", "content": [said]}
    usage = {"input_tokens": 3, "output_tokens": 3, "total_tokens": 6}
    whole = {**about, "status": "completed", "output": [done], "usage": usage}
    place = {"output_index": 0, "content_index": 0, "item_id": "msg_1"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": about},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        *({"type": "response.output_text.delta", "delta": word, **place} for word in ("one ", "two ", "three")),
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": whole},
    ]
    return [
        f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n".encode()
        for number, event in enumerate(events)
    ]


@pytest.mark.parametrize("cut", [3, 4, 5, 6])
@pytest.mark.parametrize("engine", ["httpx", "aiohttp"])
def test_the_rest_of_a_background_response_is_fetched_and_nothing_asked_anew(
    world: World, cut: int, engine: str
) -> None:
    if engine == "aiohttp" and world.kind != "asyncio":
        pytest.skip("aiohttp runs on asyncio")
    pytest.importorskip(engine)
    events = responses_stream()
    server = world.server(Raw((HEAD, *events[:cut])), Raw((HEAD, *events[cut:])))
    provider = OpenAIResponses("m", base_url=server.url + "/v1", api_key="k")
    client = world.client([provider], engine=engine, retry={"backoff_base": 0.01})
    stream = client.stream(on_break="continue", extra={"openai_responses": {"background": True, "store": True}})
    assert stream.text() == "one two three"
    assert stream.response.finish_reason == "stop"
    assert stream.response.usage is not None
    assert (stream.response.usage.output_tokens, stream.response.usage.estimated) == (3, False)
    second = server.requests[1]
    assert (second.method, second.body) == ("GET", b"")
    assert second.path.endswith(f"/responses/resp_1?stream=true&starting_after={cut - 1}")


def test_a_response_that_nobody_keeps_is_not_fetched(world: World) -> None:
    events = [event.replace(b'"background": true', b'"background": false') for event in responses_stream()]
    server = world.server(Raw((HEAD, *events[:4])), default=Status(500))
    provider = OpenAIResponses("m", base_url=server.url + "/v1", api_key="k")
    client = world.client([provider], retry={"max_attempts_per_provider": 1})
    with pytest.raises(StreamInterrupted):
        client.stream(on_break="continue").text()
    assert server.request_count == 1


# --- the vendor divides the answer -------------------------------------------------------------------------


def gemini_part(text: str, reason: str | None, token: str | None, output: int = 0) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    candidate |= {"finishReason": reason} if reason else {}
    candidate |= {"continuationToken": token} if token else {}
    counts = {"promptTokenCount": 3, "candidatesTokenCount": output, "totalTokenCount": 3 + output}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "gemini-3.1-pro", "responseId": "r1"}


def gemini(server: LoopbackLLM, **options: Any) -> Gemini:
    return Gemini("gemini-3.1-pro", base_url=server.url, api_key="k", **options)


def gemini_stream(*parts: dict[str, Any]) -> Raw:
    return Raw((HEAD, *(b"data: %b\n\n" % json.dumps(part).encode() for part in parts)))


def gemini_whole(part: dict[str, Any]) -> Raw:
    body = json.dumps(part).encode()
    return Raw(
        (b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body),)
    )


DIVIDED = (
    gemini_part("one ", "CONTINUATION", "dG9r", 2),
    gemini_part("two ", "CONTINUATION", "dG9s", 3),
    gemini_part("three", "STOP", None, 4),
)


def whole(stream: Any) -> Any:
    list(stream)
    return stream.response


def tokens_of(server: LoopbackLLM) -> list[object]:
    return [body_of(server, index).get("continuationToken") for index in range(server.request_count)]


@pytest.mark.parametrize("settings", [{}, {"stream": GATHER}], ids=["whole", "gathered"])
def test_an_answer_that_its_vendor_divided_is_put_together(world: World, settings: dict[str, Any]) -> None:
    made = gemini_stream if settings else gemini_whole
    server = world.server(*map(made, DIVIDED))
    response = world.client([gemini(server)], **settings).chat("hi")
    assert (response.text, response.finish_reason, len(response.attempts)) == ("one two three", "stop", 1)
    assert len(response.parts) == 1
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.total_tokens) == (9, 9, 18)
    assert tokens_of(server) == [None, "dG9r", "dG9s"]
    assert {tuple(body_of(server, at)["contents"][0]["parts"][0].items()) for at in range(3)} == {(("text", "hi"),)}


def test_a_stream_that_its_vendor_divided_is_one_stream(world: World) -> None:
    server = world.server(*map(gemini_stream, DIVIDED))
    stream = world.client([gemini(server, require_model=True)]).stream("hi")
    events = list(stream)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["one ", "two ", "three"]
    kinds = [type(event) for event in events]
    assert (kinds.count(StreamStart), kinds.count(Finish), kinds.count(StreamEnd)) == (1, 1, 1)
    response = stream.response
    assert (response.text, response.finish_reason, len(response.attempts)) == ("one two three", "stop", 1)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.estimated) == (9, 9, False)
    assert tokens_of(server) == [None, "dG9r", "dG9s"]


@pytest.mark.parametrize("made", [gemini_stream, gemini_whole])
def test_a_vendor_that_does_not_get_on_is_not_asked_for_ever(world: World, made: Any) -> None:
    server = world.server(*map(made, DIVIDED[:1] * 9))
    client = world.client([gemini(server)])
    response = client.chat("hi") if made is gemini_whole else whole(client.stream("hi"))
    assert (response.text, response.finish_reason, response.raw_finish_reason) == ("one one ", "other", "CONTINUATION")
    assert server.request_count == 2


def test_a_part_that_is_refused_breaks_the_stream(world: World) -> None:
    server = world.server(gemini_stream(DIVIDED[0]), default=Status(503))
    stream = world.client([gemini(server)]).stream("hi")
    with pytest.raises(StreamInterrupted) as caught:
        list(stream)
    assert (caught.value.partial.text, caught.value.status_code) == ("one ", 503)
    assert server.request_count == 2


def test_a_whole_answer_whose_next_part_is_refused_is_asked_for_elsewhere(world: World) -> None:
    first, second = world.server(gemini_whole(DIVIDED[0]), default=Status(503)), world.server(Reply("other"))
    response = world.client([gemini(first), openai(second, "second")]).chat("hi")
    assert (response.text, [record.outcome for record in response.attempts]) == ("other", ["error", "success"])


@pytest.mark.parametrize("said_after", [False, True])
def test_a_stream_that_breaks_goes_on_from_where_its_vendor_can(world: World, said_after: bool) -> None:
    parts = [gemini_part("one ", None, None), gemini_part("two ", None, "dG9r", 2)]
    parts += [gemini_part("lost ", None, None)] if said_after else []
    server = world.server(gemini_stream(*parts), gemini_stream(DIVIDED[2]), default=Status(500))
    client = world.client([gemini(server)], retry={"backoff_base": 0.01, "max_attempts_per_provider": 2})
    stream = client.stream("hi", on_break="continue")
    if said_after:  # what came after the token would come again; the model itself can write on
        list(stream)
        assert "continuationToken" not in body_of(server, 1)
        assert body_of(server, 1)["contents"][-1] == {"role": "model", "parts": [{"text": "one two lost"}]}
        return
    assert stream.text() == "one two three"
    assert tokens_of(server) == [None, "dG9r"]
    assert stream.response.usage is not None
    assert stream.response.usage.output_tokens == 6
