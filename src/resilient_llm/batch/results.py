"""What becomes of a prompt, and the line of JSON that says it.

::

    {"index": 0, "key": "q1", "prompt": "9f0c...", "text": "Paris", "finish_reason": "stop",
     "usage": {"input_tokens": 9, "output_tokens": 1}, "provider": "openai/gpt-5.2", "model": "gpt-5.2"}
    {"index": 1, "key": "q2", "prompt": "11ab...", "error": {"type": "RequestRejected", "message": "...", ...}}

``prompt`` is :func:`~resilient_llm.batch.prompts.digest`.  ``message`` is there as well where the answer is more than a
text (:meth:`~resilient_llm.model.Message.to_dict`), and ``alternatives`` for ``n=``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, cast

from typing_extensions import TypeVar

from resilient_llm.batch.prompts import Key
from resilient_llm.errors import CallFailed, Fault, FaultKind, InvalidRequest, RequestRejected
from resilient_llm.model import ChatResponse, Choice, Message, Text, Usage

R = TypeVar("R", bound=ChatResponse)
R_co = TypeVar("R_co", bound=ChatResponse, covariant=True, default=ChatResponse)

BEGINS: Final = b'{"index": '
"""How every line begins."""


@dataclass(frozen=True, slots=True)
class MapResult(Generic[R_co]):
    """What became of one prompt: ``response``, or ``error``; the other one is ``None``."""

    index: int
    """The prompt's place among the prompts, from 0."""
    key: Key
    """The key given with the prompt; its index if none was."""
    response: R_co | None = None
    error: Exception | None = None
    """A ``CallFailed``, or an ``InvalidRequest`` of a prompt that could not be asked."""
    saved: bool = False
    """Whether it comes from the file of an earlier run; of a response, what the file has: the answer, its usage, who
    gave it."""

    @property
    def answer(self) -> R_co:
        """The response.  Raises the error where there is none."""
        if self.response is None:
            raise self.error or RuntimeError("there is neither a response nor an error")
        return self.response


def lasting(error: Exception) -> bool:
    """Whether asking again makes no sense: the request itself is at fault.  Such an error has its line in a file of
    results; any other one may pass, and the next run asks again."""
    return isinstance(error, RequestRejected | InvalidRequest)


def as_line(result: MapResult[R], digest: str) -> bytes:
    """The line for a result, its end included.  ``digest``: the prompt's."""
    fields: dict[str, object] = {"index": result.index, "key": result.key, "prompt": digest}
    if result.response is not None:
        fields |= _answer(result.response)
    elif result.error is not None:
        fields["error"] = _error(result.error)
    return json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _answer(response: ChatResponse) -> dict[str, object]:
    found: dict[str, object] = {"text": response.text}
    if response.parts != (Text(response.text),):
        found["message"] = response.message().to_dict()
    found["finish_reason"] = response.finish_reason
    if response.usage is not None:
        usage = response.usage
        found["usage"] = {name: value for name in _COUNTS if (value := getattr(usage, name))}
    found |= {"provider": response.provider, "model": response.model}
    if response.alternatives:
        found["alternatives"] = [
            {"message": Message("assistant", one.parts).to_dict(), "finish_reason": one.finish_reason}
            for one in response.alternatives
        ]
    return found


_COUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
)


def _error(error: Exception) -> dict[str, object]:
    kind = getattr(error, "kind", None)
    told = {"type": type(error).__name__, "message": str(error), "kind": None if kind is None else str(kind)}
    return {**told, "status": getattr(error, "status_code", None)}


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was read back."""

    index: int
    digest: str
    fields: Mapping[str, Any]

    def result(self) -> MapResult[ChatResponse]:
        """The result it tells of, as far as it tells it.  Raises ``ValueError`` or ``TypeError`` where it does not."""
        key, error = self.fields["key"], self.fields.get("error")
        if error is not None:
            return MapResult(self.index, key, None, _error_of(error), True)
        return MapResult(self.index, key, _response_of(self.fields), None, True)


def read_line(data: bytes) -> Line:
    """The line that these bytes are.  Raises ``ValueError`` for anything else."""
    if not data.startswith(BEGINS):
        raise ValueError("it does not begin like a result")
    fields = cast("dict[str, Any]", json.loads(data))
    index, digest = fields["index"], fields.get("prompt")
    if not isinstance(index, int) or index < 0 or not isinstance(digest, str) or "key" not in fields:
        raise ValueError("it is no result")
    if not isinstance(fields.get("error", fields.get("text")), dict | str):
        raise ValueError("it has neither an answer nor an error")
    return Line(index, digest, fields)


def _response_of(fields: Mapping[str, Any]) -> ChatResponse:
    message = fields.get("message")
    parts = Message.from_dict(message).parts if message is not None else (Text(fields["text"]),)
    alternatives = tuple(
        Choice(Message.from_dict(one["message"]).parts, one["finish_reason"]) for one in fields.get("alternatives", ())
    )
    usage = fields.get("usage")
    return ChatResponse(
        parts,
        fields.get("finish_reason", "stop"),
        usage=None if usage is None else Usage(**{name: usage.get(name, 0) for name in _COUNTS}),
        model=fields.get("model", ""),
        provider=fields.get("provider", ""),
        alternatives=alternatives,
    )


def _error_of(given: Mapping[str, Any]) -> Exception:
    message, kind = str(given.get("message", "")), given.get("kind")
    if given.get("type") == "InvalidRequest":
        return InvalidRequest(message)
    made = RequestRejected if given.get("type") == "RequestRejected" else CallFailed
    fault = None if kind is None else Fault(FaultKind(kind), status=given.get("status"))
    return made(message, fault=fault)
