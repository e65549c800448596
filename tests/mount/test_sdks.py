"""``mount``: the SDKs' own objects, with their types, helpers, exceptions and defaults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from typing_extensions import TypedDict

from resilient_llm import ResilientClient, mount
from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ToolCall
from resilient_llm.providers import Anthropic, Gemini, Mistral, OpenAI
from resilient_llm.testing import LoopbackLLM, Raw, Reply, Status
from tests.mount.apps import MESSAGES, OPENAI_TOOL, mistral_class

openai: Any = pytest.importorskip("openai")


class Weather(TypedDict):
    city: str
    degrees: int


@pytest.fixture
def servers() -> Iterator[tuple[LoopbackLLM, LoopbackLLM]]:
    with LoopbackLLM() as first, LoopbackLLM() as second:
        yield first, second


@pytest.fixture
def client(servers: tuple[LoopbackLLM, LoopbackLLM]) -> Iterator[ResilientClient]:
    """The first provider is down; the other one is another vendor's."""
    first, second = servers
    first.default = Status(503)
    providers = [
        OpenAI("own", base_url=first.url + "/v1", api_key="sk-first-000000"),
        Anthropic("other", base_url=second.url, api_key="sk-second-00000"),
    ]
    with ResilientClient(providers, deadline=5.0) as made:
        yield made


@pytest.fixture
def llm(client: ResilientClient) -> Iterator[Any]:
    mounted = mount(openai.OpenAI, client)
    yield mounted
    mounted.close()


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the environment is needed."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "GEMINI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_it_is_the_sdks_own_object_with_its_own_defaults(llm: Any) -> None:
    bare = openai.OpenAI(api_key="k")
    assert type(llm) is openai.OpenAI
    assert llm.timeout == bare.timeout
    assert llm._client.timeout == bare._client.timeout
    assert llm._client.follow_redirects == bare._client.follow_redirects
    assert llm.max_retries == 0
    bare.close()


def test_arguments_are_the_sdks(client: ResilientClient) -> None:
    with mount(openai.OpenAI, client, timeout=7, max_retries=1, default_headers={"x-a": "b"}) as llm:
        assert (llm.timeout, llm.max_retries, llm.default_headers["x-a"]) == (7, 1, "b")


def test_a_subclass_of_an_sdks_class_can_be_mounted(client: ResilientClient) -> None:
    class Ours(openai.OpenAI):  # type: ignore[misc]
        pass

    with mount(Ours, client) as llm:
        assert type(llm) is Ours
        assert llm.chat.completions.create(model="m", messages=MESSAGES).choices


def test_azure_needs_no_endpoint(client: ResilientClient) -> None:
    with mount(openai.AzureOpenAI, client) as llm:
        assert llm.chat.completions.create(model="m", messages=MESSAGES).choices[0].finish_reason == "stop"


def test_raw_responses_show_who_answered(llm: Any) -> None:
    raw = llm.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.headers["x-resilient-llm-provider"] == "anthropic/other"
    assert raw.parse()._request_id == raw.headers["x-request-id"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_openai_was_to_store_may_come_from_elsewhere(llm: Any, servers: Any, stream: bool) -> None:
    ask = llm.chat.completions.with_raw_response.create
    raw = ask(model="m", messages=MESSAGES, store=True, stream=stream)
    assert raw.headers["x-resilient-llm-provider"] == "anthropic/other"
    assert raw.headers["x-resilient-llm-degraded"] == "store"
    assert servers[0].requests[0].json["store"] is True
    raw.http_response.close()


def test_parsed_answers(llm: Any, servers: Any) -> None:
    pydantic = pytest.importorskip("pydantic")
    city = pydantic.create_model("City", name=(str, ...), people=(int, ...))
    servers[1].default = Reply('{"name": "Nîmes", "people": 148104}')
    answer = llm.chat.completions.parse(model="m", messages=MESSAGES, response_format=city)
    assert answer.choices[0].message.parsed == city(name="Nîmes", people=148104)
    # What Anthropic was asked for is the schema of the class.
    assert servers[1].requests[0].json["output_config"]["format"]["schema"]["required"] == ["name", "people"]


def test_the_stream_helper_collects_text_and_tool_calls(llm: Any, servers: Any) -> None:
    calls = (
        ToolCall("call_1", "get_weather", '{"city": "Nîmes"}'),
        ToolCall("call_2", "get_weather", '{"city": "Arles"}'),
    )
    servers[1].default = Reply("Let me look.", tool_calls=calls)
    tool = {"type": "function", "function": {**OPENAI_TOOL["function"], "strict": True}}  # type: ignore[dict-item]
    with llm.chat.completions.stream(model="m", messages=MESSAGES, tools=[tool]) as stream:
        kinds = {event.type for event in stream}
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.done" in kinds
    assert message.content == "Let me look."
    assert [call.function.arguments for call in message.tool_calls] == [call.arguments for call in calls]


def test_a_conversation_with_tools_goes_on_at_another_vendor(llm: Any, servers: Any) -> None:
    servers[1].script(Reply("", tool_calls=(ToolCall("call_1", "get_weather", '{"city": "Nîmes"}'),)))
    first = llm.chat.completions.create(model="m", messages=MESSAGES, tools=[OPENAI_TOOL]).choices[0].message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "31 degrees"}
    servers[0].default = Reply("Hot.")
    again = [*MESSAGES, first, result]
    assert llm.chat.completions.create(model="m", messages=again, tools=[OPENAI_TOOL]).choices[0].message.content
    sent = (servers[1].requests + servers[0].requests)[-1].json["messages"]
    assert "31 degrees" in str(sent)


def test_everybody_throttled_is_the_sdks_rate_limit_error(llm: Any, servers: Any) -> None:
    servers[0].default = servers[1].default = Status(429, retry_after=60)
    with pytest.raises(openai.RateLimitError) as raised:
        llm.with_options(timeout=1).chat.completions.create(model="m", messages=MESSAGES)
    assert 50 <= float(raised.value.response.headers["retry-after"]) <= 70
    assert (servers[0].request_count, servers[1].request_count) == (1, 1)


def test_the_sdks_own_timeout_ends_a_call_with_its_own_exception(llm: Any, servers: Any) -> None:
    servers[0].default, servers[1].default = Status(503), Reply(delay=30.0)
    with pytest.raises(openai.APITimeoutError) as raised:
        llm.with_options(timeout=0.3).chat.completions.create(model="m", messages=MESSAGES)
    late = raised.value.__cause__
    assert isinstance(late, TimeoutError)
    assert re.search(r"no answer within 0\.(3|2\d+) s \(1\. ", str(late))  # the SDK counts what it took itself
    assert servers[1].request_count == 1


def test_over_a_transport_alone_no_answer_in_time_is_an_answer_that_is_not_retried(
    client: ResilientClient, servers: Any
) -> None:
    servers[0].default = servers[1].default = Reply(delay=30.0)
    httpx2 = pytest.importorskip("httpx2")
    http = httpx2.Client(transport=mount.transport(client))
    with (
        openai.OpenAI(api_key="k", http_client=http, timeout=0.3) as llm,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        llm.chat.completions.create(model="m", messages=MESSAGES)
    assert raised.value.status_code == 504
    assert servers[0].request_count + servers[1].request_count <= 2


@pytest.mark.parametrize(("vendor", "code"), [(OpenAI, "string_above_max_length"), (Anthropic, None)])
def test_an_error_has_the_code_of_the_sdks_own_vendor_alone(vendor: Any, code: str | None, servers: Any) -> None:
    told = json.dumps({"error": {"type": "invalid_request_error", "message": "no", "code": "string_above_max_length"}})
    head = f"HTTP/1.1 400 No\r\ncontent-type: application/json\r\ncontent-length: {len(told)}\r\n\r\n"
    servers[0].default = Raw((head.encode() + told.encode(),))
    base = servers[0].url + ("/v1" if vendor is OpenAI else "")
    with ResilientClient([vendor("m", base_url=base, api_key="sk-first-000000")]) as client:
        llm = mount(openai.OpenAI, client)
        with pytest.raises(openai.BadRequestError) as raised:
            llm.chat.completions.create(model="m", messages=MESSAGES)
    assert raised.value.code == code


def test_sdks_with_retries_of_their_own_make_one_pass(client: ResilientClient, servers: Any) -> None:
    servers[0].default = servers[1].default = Status(401)
    httpx2 = pytest.importorskip("httpx2")
    http = httpx2.Client(transport=mount.transport(client))
    with openai.OpenAI(api_key="k", http_client=http) as llm, pytest.raises(openai.AuthenticationError):
        llm.chat.completions.create(model="m", messages=MESSAGES)
    assert (servers[0].request_count, servers[1].request_count) == (1, 1)


def test_several_sdks_share_one_clients_health(client: ResilientClient, servers: Any) -> None:
    anthropic = pytest.importorskip("anthropic")
    servers[0].default = Status(429, retry_after=60)
    with mount(openai.OpenAI, client) as one, mount(anthropic.Anthropic, client) as two:
        one.chat.completions.create(model="m", messages=MESSAGES)
        two.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    assert (servers[0].request_count, servers[1].request_count) == (1, 2)


def test_anthropics_stream_helper(servers: Any) -> None:
    anthropic = pytest.importorskip("anthropic")
    servers[0].default = Reply("one two", tool_calls=(ToolCall("toolu_1", "get_weather", '{"city": "Nîmes"}'),))
    with ResilientClient([OpenAI("m", base_url=servers[0].url + "/v1", api_key="k" * 9)]) as client:
        llm = mount(anthropic.Anthropic, client)
        with llm.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
            assert "".join(stream.text_stream) == "one two"
            final = stream.get_final_message()
        llm.close()
    assert (final.stop_reason, final.content[1].input) == ("tool_use", {"city": "Nîmes"})
    assert final.usage.output_tokens > 0


def test_thoughts_of_another_vendor_do_not_come_back_to_anthropic(servers: Any) -> None:
    anthropic = pytest.importorskip("anthropic")
    first, second = servers
    first.default = Reply()
    first.script(Status(429, retry_after=0.05))
    second.default = Reply("Blue.", thought="Let me think.")
    providers = [
        Anthropic("own", base_url=first.url, api_key="k" * 9),
        OpenAI("other", base_url=second.url + "/v1", api_key="k" * 9),
    ]
    with ResilientClient(providers) as client, mount(anthropic.Anthropic, client) as llm:
        answer = llm.messages.create(model="m", max_tokens=9, messages=MESSAGES)
        signed = {"type": "thinking", "thinking": "Hm.", "signature": "EqoBCkgIARAB"}
        own = {"role": "assistant", "content": [signed, {"type": "text", "text": "Green."}]}
        history = [*MESSAGES, {"role": "assistant", "content": answer.content}, *MESSAGES, own, *MESSAGES]
        first.wait_for(lambda _: client.explain()[0].eligible)
        llm.messages.create(model="m", max_tokens=9, messages=history)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    sent = first.requests[-1].json["messages"]
    assert [[block["type"] for block in one["content"]] for one in sent if one["role"] == "assistant"] == [
        ["text"],
        ["thinking", "text"],
    ]


def test_geminis_structured_output(client: ResilientClient, servers: Any) -> None:
    genai = pytest.importorskip("google.genai")
    servers[1].default = Reply('{"city": "Nîmes", "degrees": 31}')
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    config = {"response_mime_type": "application/json", "response_json_schema": schema}
    llm = mount(genai.Client, client, http_options={"timeout": 4000})
    assert llm.models.generate_content(model="m", contents="hi", config=config).parsed == {
        "city": "Nîmes",
        "degrees": 31,
    }
    llm.close()


def test_mistrals_streams_count_tokens_where_they_finish(client: ResilientClient) -> None:
    try:
        sdk = mistral_class()
    except ImportError:
        pytest.skip("mistralai is not installed")
    llm = mount(sdk, client)
    chunks = [event.data for event in llm.chat.stream(model="m", messages=MESSAGES)]
    assert all(chunk.choices for chunk in chunks)
    assert chunks[-1].usage.completion_tokens > 0
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(isinstance(chunk.choices[0].delta.content, str) for chunk in chunks)  # programs add them up


def test_every_piece_of_a_mistral_stream_that_calls_a_tool_has_a_text(client: ResilientClient, servers: Any) -> None:
    try:
        sdk = mistral_class()
    except ImportError:
        pytest.skip("mistralai is not installed")
    servers[1].default = Reply(tool_calls=(ToolCall("c1", "look", "{}"),))
    chunks = [event.data for event in mount(sdk, client).chat.stream(model="m", messages=MESSAGES)]
    assert all(isinstance(chunk.choices[0].delta.content, str) for chunk in chunks)
    assert [one.function.name for chunk in chunks for one in chunk.choices[0].delta.tool_calls or []] == ["look"]


def test_a_raw_answer_says_how_long_it_took(llm: Any) -> None:
    raw = llm.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
    assert raw.elapsed.total_seconds() > 0


def test_geminis_files_are_uploaded_where_google_takes_them(tmp_path: Path) -> None:
    genai = pytest.importorskip("google.genai")
    file = tmp_path / "a.txt"
    file.write_text("hello")
    there = b"https://generativelanguage.googleapis.com/upload/v1beta/files?upload_id=9"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
    begun = b"x-goog-upload-status: active\r\nx-goog-upload-url: %b\r\n\r\n{}" % there
    done = b'x-goog-upload-status: final\r\n\r\n{"file":{"name":"files/abc"}}'
    with LoopbackLLM() as server:
        server.script(Raw((head + begun,)), Raw((head + done,)))
        provider = Gemini("g", base_url=f"{server.url}/v1beta", api_key="key-of-gemini")
        with ResilientClient([provider]) as client:
            llm = mount(genai.Client, client, api_key="canary-caller")
            assert llm.files.upload(file=str(file)).name == "files/abc"
            llm.close()
        assert [one.path for one in server.requests] == ["/upload/v1beta/files", "/upload/v1beta/files?upload_id=9"]
        assert server.requests[1].body == b"hello"
        sent = [one.headers for one in server.requests]
        assert [one["x-goog-upload-command"] for one in sent] == ["start", "upload, finalize"]
        assert "canary" not in str(sent)


def test_for_whom_a_request_is_made_is_told_to_anthropic_alone(servers: Any) -> None:
    anthropic = pytest.importorskip("anthropic")
    first, second = servers
    providers = [
        Anthropic("own", base_url=first.url, api_key="k" * 9),
        OpenAI("other", base_url=second.url + "/v1", api_key="k" * 9),
    ]
    with ResilientClient(providers, deadline=5.0) as client, mount(anthropic.Anthropic, client) as llm:
        raw = llm.messages.with_raw_response
        asked = {"model": "m", "max_tokens": 9, "messages": MESSAGES}
        asked["extra_headers"] = {"anthropic-user-profile-id": "up_canary"}
        assert "x-resilient-llm-degraded" not in raw.create(**asked).headers
        first.default = Status(503)
        assert raw.create(**asked).headers["x-resilient-llm-degraded"] == "user_profile_id"
    assert first.requests[0].headers["anthropic-user-profile-id"] == "up_canary"
    assert "canary" not in str(second.requests[0].headers)


def test_cohere_makes_one_pass_too(client: ResilientClient, servers: Any) -> None:
    cohere = pytest.importorskip("cohere")
    servers[0].default = servers[1].default = Status(401)
    with pytest.raises(import_module("cohere.errors").UnauthorizedError):
        mount(cohere.ClientV2, client).chat(model="m", messages=MESSAGES)
    assert (servers[0].request_count, servers[1].request_count) == (1, 1)


def test_async_objects_take_a_sync_client(client: ResilientClient) -> None:
    async def main() -> None:
        async with mount(openai.AsyncOpenAI, client) as llm:
            assert type(llm) is openai.AsyncOpenAI
            assert (await llm.chat.completions.create(model="m", messages=MESSAGES)).choices

    anyio.run(main)


# --- what cannot be mounted --------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", [str, "openai.OpenAI", None, openai.OpenAI.__init__, openai.OpenAI(api_key="k")])
def test_only_classes_of_sdks_can_be_mounted(thing: Any, client: ResilientClient) -> None:
    with pytest.raises(ConfigurationError, match="mount takes the class of an SDK"):
        mount(thing, client)


@pytest.mark.parametrize(
    ("package", "name"),
    [
        *(("anthropic", name) for name in ("AnthropicBedrock", "AsyncAnthropicBedrock", "AnthropicVertex")),
        *(("cohere", name) for name in ("BedrockClientV2", "SagemakerClientV2", "BedrockClient")),
    ],
)
def test_classes_that_ask_a_cloud_cannot_be_mounted(package: str, name: str, client: ResilientClient) -> None:
    sdk = getattr(pytest.importorskip(package), name)
    with pytest.raises(ConfigurationError, match=f"{name} asks as its cloud wants it; mount the vendor's own class"):
        mount(sdk, client)


def test_an_http_client_of_your_own_is_for_the_transport(client: ResilientClient) -> None:
    with pytest.raises(ConfigurationError, match=r"leave out http_client=, or build one with mount.transport\(\)"):
        mount(openai.OpenAI, client, http_client=object())


def test_http_clients_of_geminis_options_are_refused(client: ResilientClient) -> None:
    genai: ModuleType = pytest.importorskip("google.genai")
    import httpx

    with httpx.Client() as http, pytest.raises(ConfigurationError, match="leave out httpx_client of http_options"):
        mount(genai.Client, client, http_options={"httpx_client": http})


def test_the_module_is_the_function() -> None:
    import resilient_llm
    import resilient_llm.mount as module

    assert resilient_llm.mount is module
    assert callable(module)
    assert "mount" in dir(resilient_llm)


def mistral_frame(delta: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": more.pop("finish_reason", None)}
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m-2411",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


MISTRALS = b"".join(
    [
        mistral_frame({"role": "assistant", "content": ""}, of_next_year={"a": [1]}),
        mistral_frame({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]}),
        mistral_frame({"content": "Hé"}, p="abcdef"),
        mistral_frame(
            {"tool_calls": [{"id": "a1B2c3D4e", "function": {"name": "f", "arguments": '{"x": 1}'}, "index": 0}]},
            finish_reason="tool_calls",
            usage={"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12, "num_cached_tokens": 0},
        ),
        b"data: [DONE]\n\n",
    ]
)


def test_mistrals_own_streams_come_as_they_are(servers: Any) -> None:
    try:
        sdk = mistral_class()
    except ImportError:
        pytest.skip("mistralai is not installed")
    first, _ = servers
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n"
    first.default = Raw((head % len(MISTRALS), MISTRALS))
    with sdk(api_key="k", server_url=first.url) as bare:
        expected = [
            event.data.model_dump() for event in bare.chat.stream(model="m", messages=MESSAGES, safe_prompt=True)
        ]
    with ResilientClient([Mistral("m", base_url=first.url + "/v1", api_key="k" * 9)]) as client:
        llm = mount(sdk, client)
        found = [event.data.model_dump() for event in llm.chat.stream(model="m", messages=MESSAGES, safe_prompt=True)]
    assert found == expected
    assert [request.json for request in first.requests[1:]] == [first.requests[0].json]


def test_mistrals_sdk_takes_vectors_of_anybody(servers: Any) -> None:
    try:
        sdk = mistral_class()
    except ImportError:
        pytest.skip("mistralai is not installed")
    first, second = servers
    first.default = Status(503)
    providers = [
        Mistral("e", id="own", base_url=first.url + "/v1", api_key="k" * 9, embedding_space="s"),
        OpenAI("e", id="other", base_url=second.url + "/v1", api_key="k" * 9, embedding_space="s"),
    ]
    with ResilientClient(providers, deadline=5.0) as client:
        llm = mount(sdk, client)
        assert llm.embeddings.create(model="e", inputs=["one", "two"]).data[1].embedding


def test_what_mistral_alone_knows_comes_back_from_it(servers: Any) -> None:
    try:
        sdk = mistral_class()
    except ImportError:
        pytest.skip("mistralai is not installed")
    first, _ = servers
    with ResilientClient([Mistral("m", base_url=first.url + "/v1", api_key="k" * 9)]) as client:
        llm = mount(sdk, client)
        llm.chat.complete(model="m", messages=MESSAGES, safe_prompt=True, random_seed=7)
    assert (first.requests[0].json["safe_prompt"], first.requests[0].json["random_seed"]) == (True, 7)
