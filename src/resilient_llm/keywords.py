"""The keywords of public calls: what ``help()`` shows of them, and what is said about a name that is none of them.

Public methods take their keywords as a ``TypedDict`` so that each is declared once.  :func:`explicit` gives such a
method the signature and the documentation a reader expects; :func:`unknown` answers a misspelled or foreign name with
the one that is meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar, final

F = TypeVar("F", bound=Callable[..., object])


class Explicit(Protocol):
    """A decorator that leaves a function as it is, for whoever calls it."""

    def __call__(self, function: F, /) -> F: ...


@final
class Shown:
    """The default of a keyword whose absence means something else than ``None``, in words."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __repr__(self) -> str:
        return f"<{self._words}>"


class _Bare(str):
    """An annotation that is shown as it was written, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def explicit(options: type, lines: Mapping[str, str], defaults: Mapping[str, object]) -> Explicit:
    """A decorator for a method that takes ``**options: Unpack[...]``: its signature names each keyword, and its
    docstring has one line about each.

    ``options`` is the ``TypedDict``, ``lines`` the sentence for each of its keys, in the order to show them,
    ``defaults`` what a key that is left out stands for where that is not ``None``.
    """
    annotations: Mapping[str, object] = options.__annotations__
    keywords = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(name),
            annotation=_Bare(getattr(annotations[name], "__forward_arg__", annotations[name])),
        )
        for name in lines
        if name in annotations
    ]
    listed = "".join(f"\n    {one.name}: {lines[one.name]}" for one in keywords)

    def decorate(function: F) -> F:
        found = inspect.signature(function)
        own = [
            one.replace(annotation=_Bare(one.annotation)) if isinstance(one.annotation, str) else one
            for one in found.parameters.values()
            if one.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        answer = found.return_annotation
        shown = found.replace(
            parameters=[*own, *keywords], return_annotation=_Bare(answer) if isinstance(answer, str) else answer
        )
        function.__signature__ = shown  # type: ignore[attr-defined] # what inspect and help() look at first
        if function.__doc__ is not None:
            function.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\nKeywords:{listed}\n"
        return function

    return decorate


_CALL = {
    "timeout": "deadline=, seconds for the whole call, retries and failover included",
    "request_timeout": "deadline=, seconds for the whole call, retries and failover included",
    "max_retries": "retry=Retry(max_attempts=...) where the client is made",
    "num_retries": "retry=Retry(max_attempts=...) where the client is made",
    "retries": "retry=Retry(max_attempts=...) where the client is made",
    "retry": "retry=Retry(...) where the client is made",
    "response_format": "output=",
    "response_model": "output=",
    "output_format": "output=",
    "text_format": "output=",
    "schema": "output=",
    "max_completion_tokens": "max_tokens=",
    "max_output_tokens": "max_tokens=",
    "maxOutputTokens": "max_tokens=",
    "max_new_tokens": "max_tokens=",
    "num_predict": "max_tokens=",
    "model": "providers=[...] or route=: a provider has its model",
    "provider": "providers=[...]",
    "stream": "stream(), which is a method of its own",
    "functions": "tools=",
    "function_call": "tool_choice=",
    "system_prompt": "system=",
    "system_instruction": "system=",
    "instructions": "system=",
    "stop_sequences": "stop=",
    "reasoning_effort": "reasoning=",
    "thinking": "reasoning=",
    "extra_body": "extra={wire: fields}, as extra={'openai_chat': {...}}",
    "extra_headers": "headers= of the provider",
    "headers": "headers= of the provider",
    "api_key": "api_key= of the provider",
    "base_url": "base_url= of the provider",
    "fallbacks": "further providers in the client's list, or fallback=",
    "session_id": "conversation=",
    "prompt": "the first argument, a text or a list of messages",
    "n_retries": "retry=Retry(max_attempts=...) where the client is made",
    **dict.fromkeys(
        ("metadata", "verbosity", "store", "service_tier", "logit_bias", "prediction", "modalities", "safety_settings"),
        "extra={wire: fields}, for fields that only some vendors know",
    ),
}
_CLIENT = {
    "timeout": "deadline=, seconds for a whole call",
    "request_timeout": "deadline=, seconds for a whole call",
    "max_retries": "retry=Retry(max_attempts=...)",
    "num_retries": "retry=Retry(max_attempts=...)",
    "retries": "retry=Retry(max_attempts=...)",
    "api_key": "api_key= of a provider",
    "base_url": "base_url= of a provider",
    "model": "the model of a provider, as OpenAI('gpt-5.2')",
    "models": "providers, as [OpenAI('gpt-5.2'), ...]",
    "model_list": "providers, as [OpenAI('gpt-5.2'), ...]",
    "circuit_breaker": "breaker=",
    "rate_limits": "limits=",
    "timeout_policy": "timeouts=",
    "callbacks": "listeners=",
    "client": "http_client=",
    "proxy": "proxy= of a provider",
    "proxies": "proxy= of a provider",
    "verify": "verify= of a provider",
    "ssl_verify": "verify= of a provider",
    "cert": "cert= of a provider",
    "fallbacks": "further providers in the list",
    "context_window_fallbacks": "further providers in the list, and context_window= of each",
    "allowed_fails": "breaker=Breaker(...)",
    "cooldown_time": "breaker=Breaker(...)",
}
_PROVIDER = {
    "timeout": "deadline= of the client or the call, or timeouts= of the client",
    "max_retries": "retry= of the client",
    "model_name": "the first argument",
    "name": "id=",
    "api_base": "base_url=",
    "endpoint": "base_url=",
    "azure_endpoint": "base_url=",
    "url": "base_url=",
    "key": "api_key=",
    "token": "api_key=",
    "default_headers": "headers=",
    "extra_headers": "headers=",
    "extra_body": "params=",
    "default_query": "base_url=",
    "require": "tags=",
    "http_client": "http_client= of the client",
    "proxies": "proxy=",
    "http_proxy": "proxy=",
    "https_proxy": "proxy=",
    "trust_env": "proxy=False, which ignores the environment's",
    "ssl": "verify=",
    "ssl_context": "verify=",
    "ssl_verify": "verify=",
    "ca_bundle": "verify=",
    "client_cert": "cert=",
    "max_parallel_requests": "max_concurrency=",
    "rpm": "requests_per_minute=",
    "tpm": "tokens_per_minute=",
    "order": "its place in the client's list",
}
_FOREIGN: Mapping[str, Mapping[str, str]] = {"option": _CALL, "setting": _CLIENT, "provider option": _PROVIDER}


def unknown(name: str, known: Iterable[str], kind: str) -> str:
    """What to tell somebody who used this name: which one is meant, else which there are.

    ``kind`` is ``"option"`` (of a call), ``"setting"`` (of a client) or ``"provider option"``.
    """
    names = sorted(known)
    meant = None if f"{name}=" in names else _FOREIGN[kind].get(name)
    if meant is None:
        import difflib  # noqa: PLC0415 - for mistakes alone

        close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
        meant = f"{close[0]}=" if close else None
    told = f"there is no {kind} {name!r}"
    return f"{told}; did you mean {meant}?" if meant else f"{told}; there are {', '.join(names)}"
