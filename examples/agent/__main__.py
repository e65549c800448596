"""An agent with tools whose conversation moves from vendor to vendor.

    python examples/agent "How much is the rent of all flats in Oslo together?"

With OPENAI_API_KEY, ANTHROPIC_API_KEY or GEMINI_API_KEY set it asks these vendors, in this order.  Without a key it
runs against servers on this machine, of which the first one dies in the middle of the work.
"""

from __future__ import annotations

import ast
import operator
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from standin import standins

from resilient_llm import Message, ResilientClient, Text
from resilient_llm.model import ToolCall, ToolResult
from resilient_llm.providers import Anthropic, Gemini, HttpProvider, OpenAI

FLATS = {"Oslo": [("Storgata 3", 1450), ("Parkveien 12", 1800)], "Bergen": [("Torget 1", 1250)]}
SUMS: Mapping[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
MOST_STEPS = 8


def find_flats(city: str) -> str:
    """What we know about a city."""
    if city not in FLATS:
        raise LookupError(f"no flats in {city}; there are some in {', '.join(FLATS)}")
    return "; ".join(f"{street}: {rent} a month" for street, rent in FLATS[city])


def calculate(expression: str) -> str:
    """Arithmetic, and nothing else: a model's words are never executed."""

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in SUMS:
            return SUMS[type(node.op)](value(node.left), value(node.right))
        raise ValueError("only numbers with + - * / can be calculated")

    return f"{value(ast.parse(expression, mode='eval').body):g}"


TOOLS: Mapping[str, Callable[..., str]] = {"find_flats": find_flats, "calculate": calculate}
OFFERED = [
    {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]},
    }
    for name, description, argument in (
        ("find_flats", "All flats in a city, with their rent", "city"),
        ("calculate", "The value of an arithmetic expression", "expression"),
    )
]


def use(call: ToolCall) -> Message:
    """Carry out what the model asks for.  A tool that fails says so to the model, which may try something else."""
    try:
        result = ToolResult(call.id, (Text(TOOLS[call.name](**call.parse())),), call.name)
    except (LookupError, ValueError, TypeError, SyntaxError, ZeroDivisionError) as error:
        result = ToolResult(call.id, (Text(str(error)),), call.name, is_error=True)
    return Message("tool", (result,))


def work(client: ResilientClient, task: str) -> str:
    """Ask, use tools, ask again, until there is an answer."""
    conversation = [
        Message("system", (Text("You help to find flats. Use the tools."),)),
        Message("user", (Text(task),)),
    ]
    for _ in range(MOST_STEPS):
        reply = client.chat(conversation, tools=OFFERED, validate="tools", conversation="work", deadline=60)
        conversation.append(reply.message())
        if not reply.tool_calls:
            return f"{reply.text}  ({reply.provider})"
        for call in reply.tool_calls:
            answer = use(call)
            conversation.append(answer)
            print(f"  {reply.provider} calls {call.name}({call.arguments}) -> {answer.parts[0].text}")
    return "It took too many steps."


@contextmanager
def providers() -> Iterator[list[HttpProvider]]:
    """The vendors there are keys for; without any, servers on this machine."""
    known = [
        (OpenAI, "gpt-5.2", "OPENAI_API_KEY"),
        (Anthropic, "claude-sonnet-5", "ANTHROPIC_API_KEY"),
        (Gemini, "gemini-3.1-pro", "GEMINI_API_KEY"),
    ]
    found: list[HttpProvider] = [kind(model) for kind, model, key in known if os.environ.get(key)]
    with ExitStack() as opened:
        yield found or opened.enter_context(standins())


def main() -> None:
    task = " ".join(sys.argv[1:]) or "How much is the rent of all flats in Oslo together?"
    print(task)
    with providers() as found, ResilientClient(found) as client:
        print(work(client, task))


if __name__ == "__main__":
    main()
