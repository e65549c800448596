"""What a prompt is, out of what the caller gave: a text, messages, or these with a key and options of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TypeAlias, cast

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import Message
from resilient_llm.options import ChatOptions, ChatSettings, Messages
from resilient_llm.typed import typed

Key: TypeAlias = str | int
"""What a caller calls a prompt by."""

Prompt: TypeAlias = Messages | tuple[Key, Messages] | tuple[Key, Messages, Mapping[str, object]]
"""A text, a list of messages, or a key with one of these and, perhaps, with options for this prompt alone."""

_ASKED = frozenset(ChatSettings.__annotations__) | {"output"}
"""Options that say what is asked, and not how the call is carried out."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt of a run.  ``options`` are those of the run with the prompt's own."""

    index: int
    """Its place among the prompts, from 0."""
    key: Key
    """The caller's; its index if they gave none."""
    messages: Messages
    options: ChatOptions
    digest: str = ""
    """What :func:`digest` says of it, where results are kept."""


def check_source(prompts: object, *, asynchronous: bool = False) -> None:
    """Raise ``InvalidRequest`` unless these can be many prompts, for the async client or the sync one."""
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable | AsyncIterable):
        hint = "; for one prompt use chat()" if isinstance(prompts, str) else ""
        hint = "; use prompts.items() for keys and prompts" if isinstance(prompts, Mapping) else hint
        raise InvalidRequest(f"prompts must be an iterable of prompts, not {prompts!r:.80}{hint}")
    if not asynchronous and not isinstance(prompts, Iterable):
        raise InvalidRequest("prompts is an async iterable, which only AsyncResilientClient can use")


def read(item: object, index: int, common: ChatOptions) -> Asked:
    """The prompt that an item of the iterable is.  What its messages are worth is found out when it is asked.

    Raises ``InvalidRequest`` for a key or options that are none.
    """
    parts = list(cast("tuple[object, ...]", item)) if isinstance(item, tuple) else []
    if len(parts) not in (2, 3) or not isinstance(parts[0], str | int):
        if len(parts) == 2 and isinstance(parts[1], str) and not isinstance(parts[0], Message | Mapping):
            raise InvalidRequest(f"the key of prompt {index} must be text or a whole number, not {parts[0]!r:.80}")
        return Asked(index, index, cast(Messages, item), common)
    own: object = parts[2] if len(parts) == 3 else None
    if not isinstance(own, Mapping | None):
        raise InvalidRequest(f"prompt {index} is (key, messages, options), and its options are no mapping: {own!r:.80}")
    options = cast(ChatOptions, {**common, **cast("Mapping[str, object]", own or {})})
    return Asked(index, parts[0], cast(Messages, parts[1]), options)


def digest(asked: Asked) -> str:
    """Tells one question from another: its key, messages and settings, in 16 hexadecimal digits.

    How the call is carried out (deadline, route, providers...) makes no difference.  The same in every process.
    """
    settings = {name: value for name, value in asked.options.items() if name in _ASKED}
    told = json.dumps([asked.key, asked.messages, settings], sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _plain(value: object) -> object:
    """A value that JSON has no word for."""
    if isinstance(value, Message):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, object]", value))
    if isinstance(value, bytes | bytearray):
        return hashlib.blake2b(value).hexdigest()
    if isinstance(value, type):
        return typed(value).schema
    if is_dataclass(value):
        return {one.name: getattr(value, one.name) for one in fields(value)}
    if isinstance(value, Sequence | set | frozenset):
        return list(cast("Sequence[object]", value))
    return type(value).__qualname__
