"""The async client with a tool: the model asks, the program answers, the conversation goes on."""

import asyncio
import json

from resilient_llm import AsyncResilientClient, Message, Text
from resilient_llm.model import ToolCall, ToolResult
from resilient_llm.providers import OpenAICompatible
from resilient_llm.testing import LoopbackLLM, Reply

WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def main() -> None:
    asks = Reply("", tool_calls=(ToolCall("call_1", "get_weather", json.dumps({"city": "Paris"})),))
    with LoopbackLLM(asks, Reply("It is sunny in Paris.")) as server:
        async with AsyncResilientClient([OpenAICompatible("model", id="only", base_url=server.url)]) as client:
            conversation = [Message("user", (Text("What is the weather in Paris?"),))]
            reply = await client.chat(conversation, tools=[WEATHER], deadline=10)
            conversation.append(reply.message())
            for call in reply.tool_calls:
                print(f"the model calls {call.name} with {dict(call.parse())}")
                conversation.append(Message("tool", (ToolResult(call.id, (Text("sunny, 21 degrees"),)),)))
            print((await client.chat(conversation, tools=[WEATHER], deadline=10)).text)


asyncio.run(main())
