"""The decision table: which failure an error answer means.

The first rule whose every condition holds decides.  The order is the point:

1. what a vendor means by words it shares with others, and what no wait can fix (billing, a request above its limit);
2. throttling, which hides billing, long quotas and overload behind one status;
3. codes; 4. text, guarded by the status; 5. the status alone; 6. text where there is no status.

So a structured code beats the status and the status beats loose text, except where text is all that tells two opposite
meanings of one code apart ("too many tokens per day").  A rule that names a vendor is wrong for the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from resilient_llm.errors import FaultKind, FaultScope
from resilient_llm.wire.faults import words as v
from resilient_llm.wire.faults.body import Facts

K = FaultKind
_MODEL = FaultScope.MODEL


@dataclass(frozen=True, slots=True)
class Verdict:
    """A kind, whom it concerns (``None``: as usual for the kind), and whether obeying a hint would help."""

    kind: FaultKind
    scope: FaultScope | None = None
    trust_hint: bool = True


class Rule:
    """Conditions, all of which must hold; an absent one always does.

    ``at`` lists vendors, ``words`` canonical codes, ``*`` being any letters; ``text`` and ``unless`` are regular
    expressions.  Status 0 is an error without one.
    """

    def __init__(
        self,
        kind: FaultKind,
        *,
        at: str = "",
        status: tuple[int, ...] | range = (),
        words: str = "",
        text: str = "",
        unless: str = "",
        flag: str = "",
        scope: FaultScope | None = None,
        trust: bool = True,
    ) -> None:
        alternatives = "|".join(re.escape(word).replace(r"\*", r"\w*") for word in words.split())
        self.verdict: Verdict = Verdict(kind, scope, trust)
        self.vendors: frozenset[str] = frozenset(at.split())
        self.status: frozenset[int] = frozenset(status)
        self.words: str = f"(?<= )(?:{alternatives})(?= )" if alternatives else ""
        self.text: str = text
        self.unless: str = unless
        self.flag: str = flag

    def holds(self, vendor: str, status: int, facts: Facts) -> bool:
        return (
            (not self.vendors or vendor in self.vendors)
            and (not self.status or status in self.status)
            and (not self.flag or self.flag in facts.flags)
            and (not self.words or _found(self.words, facts.words))
            and (not self.text or _found(self.text, facts.text))
            and not (self.unless and _found(self.unless, facts.text + facts.words))
        )


@cache  # compiled when a failure first needs it: importing the library must stay cheap
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _found(pattern: str, text: str) -> bool:
    return _compiled(pattern).search(text) is not None


_GOOGLE = "gemini vertex_ai google vertex"
_WORKERS = "cloudflare_workers_ai"
_CLIENT_ERRORS = tuple(code for code in range(400, 500) if code not in {401, 402, 429})
_BILLING_STATUSES = (0, 400, 401, 403, 404, 405, 406, 409, 412, 422, 429)  # not 5xx: their text is about the server


RULES: tuple[Rule, ...] = (
    # 1. A vendor's own meaning.
    Rule(K.QUOTA_EXHAUSTED, at=_GOOGLE, status=(402, 429), text=r"\blimit: ?0\b", trust=False),  # not in this tier
    Rule(K.QUOTA_EXHAUSTED, at=_GOOGLE, status=(0, 429), text=v.LONG_WINDOW, trust=False),  # yet RetryInfo says 17 s
    Rule(K.RATE_LIMITED, at=_GOOGLE, words="resourceexhausted", text=r"exceeded your current quota"),
    Rule(K.PERMISSION, at=_GOOGLE, words="failedprecondition", text=r"location|country|region|billing|terms"),
    Rule(K.PERMISSION, at="azure_openai azure", status=(403,), text=r"resource has been|virtual network|firewall"),
    Rule(K.NOT_FOUND_MODEL, at="bedrock", status=(0, 400), text=r"model identifier is invalid|on-demand throughput"),
    Rule(K.CONTENT_FILTER, at="cohere", status=(498,)),  # 498 at Groq is its flex tier at capacity
    Rule(K.AUTH, at="nvidia_nim fireworks", status=(403,), text=r"authorization failed|unauthori[sz]ed|authenticat"),
    Rule(K.QUOTA_EXHAUSTED, at="fireworks", status=(412,), text=r"suspend|billing|payment|spend|credit|invoice"),
    Rule(K.BAD_REQUEST, at=_WORKERS, words="3003 3010 5004 5005 5006"),
    Rule(K.PAYLOAD_TOO_LARGE, at=_WORKERS, words="3006"),
    Rule(K.TIMEOUT, at=_WORKERS, words="3007 3046"),
    Rule(K.CLIENT_CLOSED, at=_WORKERS, words="3008"),
    Rule(K.QUOTA_EXHAUSTED, at=_WORKERS, words="3036"),
    Rule(K.OVERLOADED, at=_WORKERS, words="3040"),
    Rule(K.NOT_FOUND_MODEL, at=_WORKERS, words="5007"),
    Rule(K.PERMISSION, at=_WORKERS, words="5016 5018 3041"),
    Rule(K.AUTH, at=_WORKERS, words="10000 10001 9109 9103 9106 6003 6111"),
    Rule(K.OVERLOADED, at="mistral", words="3505"),
    Rule(K.CONTEXT_LENGTH, at="mistral", words="3051"),
    Rule(K.NOT_FOUND_MODEL, at="mistral", words="1500"),
    Rule(K.CONTENT_FILTER, status=(0, 403), flag="moderated"),
    Rule(K.SEALED_REASONING, status=(0, 400, 422), words="invalidencryptedcontent"),
    Rule(K.SEALED_REASONING, status=(0, 400, 404, 422), text=v.SEALED),
    Rule(K.BAD_REQUEST, status=(0, 400, 403, 404), text=v.NOT_KEPT, unless=r"\bmodel\b|deployment|endpoint"),
    Rule(K.PERMISSION, flag="challenge"),  # Cloudflare doubts our user agent or address, not our key
    Rule(K.OVERLOADED, words="*capacityexhausted", scope=_MODEL),  # Google says RESOURCE_EXHAUSTED as well
    Rule(
        K.OVERLOADED,
        status=(400, 422, 500, 502),
        text=r"\b(?:model|server|service|backend|engine) is (?:currently )?(?:overloaded|busy)|^overloaded\W*$",
    ),
    Rule(K.OVERLOADED, status=(500, 502, 503), text=r"\bresource ?exhausted\b|total request limit reached"),
    # What a relay says about its own channels never concerns our credential.
    Rule(K.OVERLOADED, words=v.SHARED_POOL_CODES, scope=_MODEL),
    Rule(K.TIMEOUT, words="channelresponsetimeexceeded"),
    Rule(K.SERVER_ERROR, words="channel*"),
    # Money, and requests above their limit.  In-flight budgets settle: theirs is the one 402 worth waiting for.
    Rule(K.RATE_LIMITED, words="inflightbudgetexhausted openrouterinflightbudget"),
    Rule(K.RATE_LIMITED, words="entitlement*", text=r"per minute|\brpm\b|\btpm\b|concurren"),
    Rule(K.QUOTA_EXHAUSTED, words="entitlement*exceeded entitlement*exhausted"),
    Rule(K.QUOTA_EXHAUSTED, words=v.BILLING_CODES, trust=False),
    Rule(K.QUOTA_EXHAUSTED, status=(402,), trust=False),
    Rule(K.CONTEXT_LENGTH, status=(0, 400, 422), flag="never_fits", text=v.CONTEXT, unless=v.NOT_CONTEXT),
    Rule(K.PAYLOAD_TOO_LARGE, status=(0, 400, 413, 429), flag="never_fits", trust=False),
    Rule(K.PAYLOAD_TOO_LARGE, status=(0, 413, 429), text=v.NEVER_FITS, trust=False),
    Rule(K.QUOTA_EXHAUSTED, status=_BILLING_STATUSES, text=v.BILLING, trust=False),
    Rule(K.QUOTA_EXHAUSTED, text=r"exceeded your current quota", unless="resourceexhausted", trust=False),
    # 2. Throttling.  The long windows first: seconds do not cure them.
    Rule(K.QUOTA_EXHAUSTED, status=(0, 413, 429, 503), words=v.RATE_CODES, text=v.LONG_WINDOW),
    Rule(K.QUOTA_EXHAUSTED, status=(429,), text=v.LONG_WINDOW),
    Rule(K.QUOTA_EXHAUSTED, status=(429,), flag="long_window_spent"),
    Rule(K.OVERLOADED, status=(429,), words=v.OVERLOAD_CODES, scope=_MODEL),
    Rule(K.OVERLOADED, status=(0, 429), text=r"high demand|peak load|rate-limited upstream|shared pool", scope=_MODEL),
    Rule(K.OVERLOADED, status=(429,), text=v.OVERLOAD, unless=v.OUR_LIMIT, scope=_MODEL),
    Rule(  # no quota is named: the capacity all customers share
        K.OVERLOADED,
        status=(0, 429),
        text=r"resource (?:has been )?exhausted\W+(?:please )?(?:try|retry)",
        unless=r"quota|limit(?!exceeded)|perminute",
        scope=_MODEL,
    ),
    Rule(K.RATE_LIMITED, status=(429,), text=r"error code: 1015|\b1015\b", scope=FaultScope.ENDPOINT),  # by address
    Rule(
        K.RATE_LIMITED,
        words=v.RATE_CODES,
        text=r"(?:for|this|per)[ _](?:base[ _])?model|permodel|base_model",
        scope=_MODEL,
    ),
    Rule(K.RATE_LIMITED, words=v.RATE_CODES),
    Rule(K.RATE_LIMITED, status=(429,)),
    # 3. Codes that decide whatever the status.
    Rule(K.PERMISSION, status=(403,), words="modelnotfound modelnotavailable *modelaccess*"),
    Rule(K.PERMISSION, status=(0, 400, 403, 404), text=r"use case details|not agreed to"),
    Rule(K.CONTENT_FILTER, words=v.CONTENT_CODES),
    Rule(K.CONTENT_FILTER, words="invalidprompt", text=r"polic|violat|flagged|safety"),
    Rule(K.AUTH, words=v.AUTH_CODES),
    Rule(K.PERMISSION, words=v.ACCOUNT_CODES),
    Rule(K.NOT_FOUND_MODEL, status=(0, 400, 404, 410, 422, 500, 503), words=v.MODEL_CODES),
    Rule(K.CONTEXT_LENGTH, words=v.CONTEXT_CODES, unless=v.NOT_CONTEXT),
    Rule(K.PAYLOAD_TOO_LARGE, words=v.PAYLOAD_CODES),
    Rule(K.SERVER_ERROR, words="tooluse*failed jsonvalidatefailed *generationfailed*", scope=_MODEL),
    Rule(K.SERVER_ERROR, flag="failed_generation", scope=_MODEL),
    Rule(K.CONFLICT, status=(0, 409), words="conflict* aborted"),
    Rule(K.BAD_REQUEST, status=(0, 400, 404, 422), words="image* invalidimage* emptyimage*"),  # ours, not a model
    # 4. Text, where the status leaves room for it.
    Rule(K.CONTEXT_LENGTH, status=(0, 500, *_CLIENT_ERRORS), text=v.CONTEXT, unless=v.NOT_CONTEXT),
    Rule(K.PERMISSION, status=(400, 403), text=v.ACCOUNT_BLOCKED, unless=r"api[ _-]?key"),
    Rule(K.CONTENT_FILTER, status=(0, 400, 403, 422, 451, 498), text=v.CONTENT),
    Rule(K.SERVER_ERROR, status=(0, 400, 422), text=v.MODEL_FAILED, scope=_MODEL),
    Rule(K.PAYLOAD_TOO_LARGE, status=(0, 400, 403, 413, 422), text=v.PAYLOAD, unless=r"per[ _-]minute"),
    Rule(
        K.NOT_FOUND_MODEL,
        status=(0, 400, 404, 410, 422),
        text=v.MODEL,
        unless=r"unsupported (?:parameter|value)|with this model|modified",
    ),
    Rule(K.PERMISSION, status=(401,), text=r"ip allowlist|ip address|insufficient permission|missing scopes|country"),
    Rule(K.AUTH, status=(0, 400, 403), text=v.AUTH, unless=r"does not have|don't have|unexpected token|json"),
    Rule(K.PERMISSION, status=(0, 400), text=v.PERMISSION, unless=r"is not permitted|extra inputs"),
    # 5. General codes.
    Rule(K.OVERLOADED, status=(0, *range(400, 404), *range(405, 600)), words=v.OVERLOAD_CODES),
    Rule(K.TIMEOUT, words="*timeout *timedout *deadlineexceeded"),
    Rule(K.CLIENT_CLOSED, words="cancelled canceled requestcancel* clientclosed* clientdisconnect*"),
    Rule(K.PERMISSION, status=(0, 401, *_CLIENT_ERRORS), words=v.PERMISSION_CODES),
    Rule(K.MISCONFIGURED, status=(400, 404), text=v.WRONG_ADDRESS),
    Rule(K.NOT_FOUND_MODEL, status=(0, 404), words="notfound"),
    Rule(  # botocore gives what Bedrock says inside a stream the status 400
        K.SERVER_ERROR,
        status=(0, 400, 424, *range(500, 503)),
        words="internalserver* internal internalfailure serverinternal dataloss modelstream model",
    ),
    Rule(K.BAD_REQUEST, words="notimplemented unimplemented notsupported"),
    # 6. Errors without a status: inside a stream or a 200.  What no code says, the text may.
    Rule(K.BAD_REQUEST, status=(0,), words=v.VAGUE_REQUEST_CODES),
    Rule(K.SERVER_ERROR, status=(0,), words=v.VAGUE_SERVER_CODES),
    Rule(K.OVERLOADED, status=(0,), text=v.OVERLOAD),
    Rule(K.RATE_LIMITED, status=(0,), text=r"rate[ _-]?limit|too many requests|throttl|slow down"),
    Rule(K.TIMEOUT, status=(0,), text=r"timed out|time-?out\b|deadline (?:expired|exceeded)"),
    Rule(K.CLIENT_CLOSED, status=(0,), text=r"cancell?ed"),
    Rule(K.CLIENT_CLOSED, status=(408,), text=r"abort|cancell?ed"),
    Rule(K.BAD_REQUEST, status=(0,), text=r"^(?:input )?validation error|^bad request|unprocessable"),
)


_STATUSES: Mapping[FaultKind, tuple[int, ...]] = {
    K.AUTH: (401,),
    K.QUOTA_EXHAUSTED: (402,),
    K.PERMISSION: (403, 451),
    K.CONNECTION: (407, 444, 511, 521, 523, 525, 526, 527, 530),  # our own proxy; Cloudflare could not reach the origin
    K.TIMEOUT: (408, 504, 522, 524, 598, 599),
    K.CONFLICT: (409, 423),
    K.PAYLOAD_TOO_LARGE: (413,),
    K.BAD_REQUEST: (414, 431, 501, 505),
    K.SERVER_ERROR: (424, 425),  # the model failed below the API
    K.RATE_LIMITED: (429,),
    K.CLIENT_CLOSED: (460, 499),  # the first is a load balancer's
    K.OVERLOADED: (498, 503, 529),
}
_BY_STATUS = {status: kind for kind, statuses in _STATUSES.items() for status in statuses}

_SCOPES: Mapping[FaultKind, FaultScope] = {
    **dict.fromkeys((K.RATE_LIMITED, K.QUOTA_EXHAUSTED, K.AUTH, K.PERMISSION), FaultScope.CREDENTIAL),
    K.NOT_FOUND_MODEL: FaultScope.MODEL,
    **dict.fromkeys((K.BAD_REQUEST, K.CONTEXT_LENGTH, K.PAYLOAD_TOO_LARGE, K.CONTENT_FILTER), FaultScope.REQUEST),
    **dict.fromkeys((K.CONFLICT, K.CLIENT_CLOSED, K.UNSUPPORTED, K.SEALED_REASONING), FaultScope.REQUEST),
}

_LIMIT = r"\blimit:? ([0-9][0-9,]{0,14})\b"
_REQUESTED = r"\brequested:? ([0-9][0-9,]{0,14})\b"


def scope_of(kind: FaultKind) -> FaultScope:
    """Whom a failure of this kind concerns when nothing more is known."""
    return _SCOPES.get(kind, FaultScope.ENDPOINT)


_WRONG_ADDRESS = frozenset({404, 405, 410, 418})
"""What a server answers that does not know the path or the method."""
_ABOUT_CONTENT = frozenset({400, 415, 422})
"""What an API answers to a request it has read and does not want.  Any other client error without a meaning of its own
(406, 411, 417, 421, 426...) is about how HTTP is spoken there, whatever the body says: nobody else need refuse it."""


def by_status(status: int, facts: Facts) -> FaultKind:
    """What a status means where no rule speaks; 0 and numbers nobody assigned count as a server error.

    A vendor says in JSON what is wrong with a request.  A redirect, a path or method that is not known, and a client
    error that says nothing of the kind come from something else than the API we expect.
    """
    known = _BY_STATUS.get(status)
    if known is K.BAD_REQUEST and status >= 500 and not facts.structured:
        return K.SERVER_ERROR  # no provider said that it does not know the request
    if known is not None:
        return known
    if 300 <= status < 400:
        return K.MISCONFIGURED
    if not 400 <= status < 500:
        return K.SERVER_ERROR
    if status in _WRONG_ADDRESS:
        return K.NOT_FOUND_MODEL if status == 404 and facts.structured else K.MISCONFIGURED
    if status not in _ABOUT_CONTENT:
        return K.MISCONFIGURED
    said = facts.structured or ("html" not in facts.flags and _found(v.ABOUT_THE_REQUEST, facts.text))
    return K.BAD_REQUEST if said else K.MISCONFIGURED


def decide(vendor: str, status: int, facts: Facts) -> Verdict:
    """The verdict on an error answer of this status, 0 for an error inside a 200.  A status in the body stands above
    the envelope's: relays and gateways wrap one in another."""
    effective = facts.statuses[0] if facts.statuses else status
    flags = set(facts.flags)
    limit, requested = re.search(_LIMIT, facts.text), re.search(_REQUESTED, facts.text)
    if limit and requested and 0 < int(limit[1].replace(",", "")) < int(requested[1].replace(",", "")):
        flags.add("never_fits")  # "Limit 6000, Requested 12089": an empty bucket would not do either
    if any(one.remaining == 0 and one.window in {"day", "week", "month"} for one in facts.limits.known().values()):
        flags.add("long_window_spent")
    facts = replace(facts, flags=frozenset(flags))
    for rule in RULES:
        if rule.holds(vendor, effective, facts):
            verdict = rule.verdict
            break
    else:
        verdict = Verdict(by_status(effective, facts))
    return _of_the_relay(verdict) if "relayed" in facts.flags else verdict


def _of_the_relay(verdict: Verdict) -> Verdict:
    """The relay's own account with its upstream was refused: nothing is wrong with ours."""
    if verdict.kind in {K.AUTH, K.PERMISSION}:
        return Verdict(K.SERVER_ERROR, FaultScope.MODEL)
    if verdict.kind is K.RATE_LIMITED:
        return Verdict(K.OVERLOADED, FaultScope.MODEL)
    return verdict
