"""The vocabulary of failure: codes and phrases by which vendors say the same thing.

Codes are in the canonical spelling of :func:`~resilient_llm.wire.faults.body.canonical` (``rate_limit_error`` is
``ratelimit``); ``*`` stands for any further letters.  Phrases are regular expressions for lower-case text without URLs,
each an alternative of its own, with bounded gaps so that no text can make them slow.
"""

from __future__ import annotations


def any_of(*phrases: str) -> str:
    """One expression for all of them."""
    return "|".join(phrases)


LONG_WINDOW = any_of(
    r"(?:per|/|a|each|this|for the)[ _-]?(?:day|week|month)\b",
    r"per(?:day|week|month)",
    r"_per_(?:day|week|month)",
    r"\b(?:daily|weekly|monthly)\b",
    r"\b(?:rpd|tpd)\b|limit_(?:rpd|tpd)|dailylimit|monthlylimit",
    r"(?:24|twenty-four)[ -]hours?\b|for today|per 86400 ?s|byday\b",
)
"""A bucket that refills in a day or more."""

BILLING = any_of(
    r"credit balance|balance (?:is )?(?:too low|insufficient|exhausted|not enough)",
    r"insufficient(?:[ _](?:account|user|api|available|token))?[ _](?:balance|quota|credits?|funds)",
    r"(?:out of|no(?: prepaid| remaining| more)?|not enough|used all(?: of)?(?: your)?(?: available)?"
    r"|any)(?: \w+)? ?credits",
    r"(?:require more|purchase (?:more )?|add (?:more )?|buy (?:more )?)(?: \w+)? ?credits",
    r"credits?(?: have| has| are| is)?(?: been)? (?:expired|depleted|exhausted|used up|insufficient)",
    r"spend(?:ing)?[ _-](?:limit|cap|budget)|included credits|key limit exceeded|specified(?: \w+)? api usage limits",
    r"billing (?:hard limit|issue|problem|limit|not active|is not (?:active|enabled)|has (?:been|not))",
    r"check your billing",
    r"issue with your billing|requires billing|enable billing|past due|arrears|overdue",
    r"payment (?:required|method|information|is required|failed)",
    r"prepa(?:y|id|yment)(?: \w+)? (?:credits?|balance)|not on a paid plan|exceeded (?:your )?usage limits",
    r"(?:usage|quota) (?:limit )?(?:has been )?(?:used up|exhausted)|free allocation",
    r"usage limit (?:has been )?reached|reached your(?: \w+)? usage limit",
    r"free (?:quota|credits?|trial|tier)(?: \w+){0,6} (?:exhausted|used up|expired|ended|exceeded)",
    r"余额|额度|欠费|配额(?:不足|已)",
)
"""Money."""

OUR_LIMIT = any_of(
    r"rate[ _-]?limit|per[ _-]?(?:minute|min\b|second|hour)|/ ?min|call rate|too many requests|quota|\b[rt]pm\b",
    r"your (?:organization|tier|account|project|team|key)|concurren|permodel|perproject",
)
"""A limit of ours, which "capacity" in the same sentence does not change."""

OVERLOAD = any_of(
    r"overload|high (?:demand|load|traffic)|peak (?:load|time|hours)",
    r"temporarily (?:unable|unavailable|at capacity)",
    r"(?:at|over|out of|no|insufficient|limited|tier|model|server|backend|exceeded|lack of)(?: \w+)? capacity",
    r"capacity(?: \w+){0,3} (?:exceeded|exhausted|reached|constraint|constrained|unavailable)",
    r"servers? (?:is|are)(?: \w+)? busy|too busy|service busy|system (?:is )?busy",
    r"no healthy upstream|no available (?:upstream|channel|server|worker|instance|backend)|no deployments available",
    r"(?:currently|still|is|model) loading|loading model|warming up|cold start|not ready|unhealthy",
    r"queue(?: is| was)? (?:full|limit)|pending requests exceeded|no more data centers",
    r"rate-limited upstream|shared (?:capacity|pool)|负载|繁忙|过载",
)
"""The vendor has no capacity."""

CONTEXT = any_of(
    r"context[ _-]?(?:length|window|size|limit)(?=.{0,200}(?:exceed|longer|too|greater"
    r"|reduce|maximum|limit|must|tokens|\d))",
    r"(?:exceed|longer|too|greater|less|reduce|maximum|larger|fit"
    r"|over)[^.]{0,120}context[ _-]?(?:length|window|size|limit)",
    r"longer than the maximum (?:model )?length",
    r"maximum context|max(?:imum)? prompt length|max_prompt_tokens|max_seq_len|max_model_len",
    r"(?:prompt|input|conversation) (?:is |was )?too (?:long|large)(?! to)|physical batch size",
    r"input (?:length|tokens?(?: count)?)[^.]{0,60}exceed|prompt tokens? [^.]{0,40}exceed",
    r"too many (?:input |prompt )?tokens: |too many (?:input|prompt) tokens",
    r"tokens in the prompt (?:cannot|can't|must not) exceed|prompt contains \d+ tokens",
    r"reduce (?:the |your )?(?:length of )?(?:the |your )?(?:messages?|prompt|input)\b",
    r"expected maxlength:(?! ?\d{1,3}\b)",  # a short one is a field, such as a tool's name
    r"`?inputs`? (?:tokens \+|must have less than)|max_new_tokens`? must be",
    r"maximum (?:allowed )?(?:input|prompt|sequence) (?:length|tokens?)|token count of \d+ exceeds",
    r"(?:prompt|input) exceeds (?:the )?max(?:imum)?(?: \w+)? length|range of input length should be",
    r"exceed\w{0,4} (?:the )?(?:model'?s? )?(?:maximum )?(?:model )?token limit|maximum number of (?:input )?tokens",
    r"(?:input|prompt|messages?)[^.]{0,40}tokens[^.]{0,60}(?:exceed|longer|greater|larger|over)",
    r"tokens?[^.]{0,40}exceed\w{0,4} (?:the )?(?:model )?(?:maximum|limit|max)[^.]{0,40}tokens?",
    r"sequence length[^.]{0,40}(?:exceed|longer)|\b\d{1,12} tokens > \d",
)
"""More tokens than the model's window."""

_Q = r"[`'\"]?"
SEALED = any_of(
    r"encrypted[ _]content\b.{0,300}could not be (?:verified|decrypted|parsed)",
    r"(?:could not|cannot|failed to|unable to) (?:decrypt|verify|parse)\b.{0,80}encrypted[ _]content",
    r"(?:corrupted|invalid|missing an?|malformed) thought[ _]?signature",
    r"thought[ _]?signature\b.{0,40}(?:not valid|invalid|corrupt|mismatch|fail(?:ed|ure)\b)",
    rf"invalid {_Q}(?:signature|data){_Q} in {_Q}(?:redacted_)?thinking{_Q} block|\bthinking\.signature\b",
    rf"thinking{_Q} (?:or {_Q}redacted_thinking{_Q} )?blocks\b.{{0,60}}cannot be modified",
    rf"(?:expected|must be|must start with) {_Q}thinking{_Q} or {_Q}redacted_thinking",
    rf"cannot contain {_Q}(?:redacted_)?thinking|thinking block must contain thinking",
    # Items of OpenAI's Responses that belong together, or that another account keeps.
    rf"of type {_Q}(?:reasoning|function_call|custom_tool_call|message){_Q} was provided without its required",
    rf"item with id {_Q}(?:rs|fc|ctc|msg)_\w*{_Q} not found",
    # DeepSeek and Moonshot want the reasoning behind a tool call back, which another vendor's call never had.
    r"missing [`'\"]?reasoning_content|reasoning_content\b.{0,40}(?:is missing|must be passed back)",
)
"""Reasoning that is not the provider's own, was changed on its way, or is missing where the vendor wants it back."""

NOT_CONTEXT = any_of(
    r"rate[ _-]?limit|too many requests|throttl|service unavailable|per[ _-](?:minute|day)",
    r"(?:string|array) too long|completion tokens, whereas",
    r"too many tokens: max[ _]tokens|maximum (?:number of )?output",  # of the answer
    r"(?:unknown|unrecognized|unsupported|extra|unexpected) (?:parameter|argument|field|input|key)",
)
"""Sounds like the above and is throttling, or a parameter."""

CONTENT = any_of(
    r"content[ _-](?:management|filter|polic|moderation|safety)",
    r"safety (?:system|filter|setting|polic|guideline|check)",
    r"usage (?:polic|guideline)|acceptable use|moderation|responsible ?ai|prompt injection",
    r"(?:was|been|is|prompt|input|content|output|request) (?:flagged|blocked)|flagged (?:as|for|by)",
    r"blocked (?:by|due to|for) (?:\w+ )?(?:content|safety|polic|guardrail|moderation|prompt)",
    r"sensitive (?:words?|content)|new_sensitive|(?:inappropriate|harmful|unsafe) content|prohibited (?:content|use)",
    r"guardrail[^.]{0,60}(?:block|interven|violat|trigger)|(?:block|interven|violat|trigger)[^.]{0,60}guardrail",
    r"deny-?listed|violat\w{1,9}[^.]{0,60}(?:polic|guideline|terms|rules)|敏感|违规|不合规",
)
"""Refused for what it says."""

ACCOUNT_BLOCKED = any_of(
    r"(?:your|the|this) (?:\w+ )?(?:resource|account|organi[sz]ation|project|subscription|team|user)(?: \S+){0,6}? "
    r"(?:blocked|suspended|disabled|restricted|deactivated|banned|terminated)",
    r"organization has been",
)
"""Refused for who we are."""

PAYLOAD = any_of(
    r"(?:request|payload|body|entity|content|upload|message)(?: \w+){0,2} (?:is )?too (?:large|big)|payload size",
    r"exceeds? the maximum(?: allowed)? (?:size|request size|payload)|maximum (?:request|payload|body|upload) size",
    r"string too long\. expected a string with maximum length \d{6}",
    r"size limit|body (?:exceeded|exceeds)|exceeds \d+ ?[mk]i?b\b|length limit exceeded|larger than the maximum",
)
"""More bytes than the server takes."""

NEVER_FITS = any_of(r"request too large", r"single request exceeds", r"extra usage is required for long context")

_A_MODEL = r"\b(?:model|deployment|engine)s?\b(?!'s)[^;]{0,160}?"
MODEL = any_of(
    _A_MODEL + r"(?:not[ _]found|(?:does|did|do)(?: not|n't) exist|not exist\b|end of (?:its )?life)",
    _A_MODEL + r"no longer (?:available|supported|exists)",
    _A_MODEL + r"(?:is|was|has been|been) (?:decommissioned|deprecated|retired|removed|shut down)",
    _A_MODEL + r"is not (?:a valid|available|supported by any|a known|recognized|served)",
    r"\bmodel (?:(?:identifier|id|name)(?: \S+)?|[`'\"]\S+) is (?:invalid|unknown)",
    r"(?:unknown|invalid|unsupported|unrecognized|nonexistent|no such|incorrect|wrong)(?: \w+)? "
    r"(?:model|deployment|engine)\b"
    r"(?! (?:output|respons|param|input|setting|config))",
    r"does not work with the specified model|only supported in v1/\w+ and not|thus not supported in the v1/",
    r"\b(?:was|been|is) (?:retired|decommissioned)\b|unavailable model",
    r"not a valid model|no endpoints found|(?:could not|cannot) find (?:the )?model|模型不存在",
    r"no (?:available )?(?:channel|provider)s? (?:found )?for model",
)
"""No such model here."""

_WRONG = (
    r"(?:incorrect|invalid|malformed|missing|expired|revoked|disabled|wrong|bad|unknown|no|inactive)"
    r"(?: or \w+)?(?: \w+){0,2}"
)
AUTH = any_of(
    _WRONG + r"[ `'\"]+(?:x-)?(?:api|subscription|access|auth\w*|security|bearer|secret|virtual)[ _-]?(?:key|token)\b",
    _WRONG + r" credentials?\b",
    r"api[ _-]?key\b[^.;]{0,60}(?:invalid|not valid|expired|leak|revoked|disabled|blocked"
    r"|not found|missing|required|malformed)",
    r"(?:provide|pass|supply|set|include)[^.]{0,30} (?:api[ _-]?key|credentials)",
    r"authenticat(?:e|ion|ed)[ ,:]?(?:has |was )?(?:failed|error|fails|required|unsuccessful|invalid)",
    r"unregistered callers",
    r"(?:failed|unable|could not|cannot) to authenticate|not authenticated|no auth(?:entication)? credentials",
    r"authorization (?:failed|header|required)|security token (?:included|is|has)",
    r"signature (?:we calculated|does(?: not|n't)|expired|not yet|is)|invalid username|log ?in required",
    r"token (?:has |is |was )?(?:been )?(?:expired|revoked)|(?:invalid|expired) (?:bearer|jwt|oauth)",
    r"^\W*unauthori[sz]ed\b(?! to)|reported as leaked|due to leak|令牌(?:无效|已过期|不存在)|无效的令牌",
)
"""The credential is wrong."""

PERMISSION = any_of(
    r"(?:do(?:es)?(?: not|n't)|no|without|insufficient|lacks?|sufficient)(?: \w+){0,2} "
    r"(?:permissions?|access|privileges?|scopes?)\b",
    r"^operation not allowed",
    r"permission (?:denied|to)|access (?:is )?denied|not (?:authorized|permitted|entitled) to|only authorized for",
    r"\b(?:account|user|key|team|project|organization|you)\b[^.]{0,30} not (?:allowed|enabled) (?:to|for)",
    r"not (?:yet )?(?:available|enabled|included|allowed) (?:for|in|on|with) (?:this|your) "
    r"(?:subscription|plan|account|tier|organi[sz]ation|project|team)|organi[sz]ation must be verified",
    r"unsupported (?:countr|region|location)",
    r"use case details|not (?:agreed|accepted)|accept the (?:terms|license)|ip allowlist|ip address|forbidden",
    r"(?:country|region|location|territory)[^.]{0,60}not (?:supported|available|allowed)|user location",
    r"not (?:supported|available) in your (?:country|region)|api (?:has not been used|is disabled|is not enabled)",
)
"""The credential is right and may not do this."""

NOT_KEPT = any_of(
    r"\b(?:response|conversation|item|file|container|vector store|cached ?content|batch|upload)s?"
    r"(?: with(?: an?)? id)?:? ?\S{0,80} (?:was |were |is |could )?not (?:be )?found",
    r"no such (?:file|container|vector store|conversation|batch|upload)|permission to access the file\b",
)
"""Something that a request refers to and that is kept at a vendor, or was: another's, or no longer there."""

MODEL_FAILED = any_of(r"failed to (?:call a function|generate json|parse tool)", r"tool call validation failed")
"""The model's own output was unusable; the next sample may be fine."""

RATE_CODES = """
    ratelimit* *ratelimit *ratelimited *ratelimitexceeded toomanyrequests throttl* *throttling slowdown requests
    tokens dynamic*limited *concurrencylimit* resourceexhausted quotaexceeded requestlimitexceeded limitexceeded
    bandwidthlimitexceeded someresourcehasbeenexhausted 971
"""

OVERLOAD_CODES = """
    *overloaded *overload unavailable serviceunavailable* temporarilyunavailable *busy *capacityexceeded
    *capacityreached insufficientsystemresource* healthcheck modelnotready modelloading loadingmodel
    modelunavailable *queuefull nocapacity providertemporarilyunavailable resourceunavailable *capacityexhausted
"""

ABOUT_THE_REQUEST = any_of(
    r"deseriali[sz]e|\bjson\b|validation|unknown variant|\bfield\b|parameter|\bmessages?\b|required",
    r"invalid (?:request|value|type|argument|input)|malformed|must (?:be|have|not)|expected",
)
"""What is wrong with a request, said as plain text."""

WRONG_ADDRESS = any_of(
    r"^(?:404[ :]*)?(?:the )?(?:requested )?(?:page|url|uri|route|path|endpoint)?(?: was)? ?not found\W*$",
    r"invalid url|unrecognized request url|unknown (?:request )?(?:url|path|endpoint|route)",
    r"api[- ]version (?:is )?(?:not supported|unsupported|invalid|required)|unsupported api[- ]version",
    r"cannot (?:get|post) /|no (?:such )?(?:route|endpoint|handler)\b|no route matche[sd]",
)
"""There is no such path on this server."""

SHARED_POOL_CODES = "upstreamprovidersharedpool openroutersharedcapacity channelnoavailablekey"

BILLING_CODES = """
    insufficient*quota* insufficient*balance* insufficient*credit* insufficient*funds creditbalanceexhausted
    *spendlimit* *spendinglimit* *usagelimitexceeded *usagelimitreached billing* paymentrequired*
    preconsumetokenquotafailed accountoverdue* arrearage balance*insufficient openrouterfreetierdaily
    openroutercredits openrouterkeylimit weightexceedsbudget *dailylimit* *weeklylimit* *monthlylimit*
    *budgetexceeded setlimitexceeded quotaexhausted outofcredits nocredits *quotanotenough servicequotaexceeded
    exceededcurrentquota
"""

CONTENT_CODES = """
    contentfilter* *contentpolicy* *responsibleaipolicy* refusal promptblocked sensitivewords* biopolicy
    cyberpolicy *moderation* datainspectionfailed prohibitedcontent* *safetyviolation safety contentblocked*
    guardrail* usagepolicy*
"""

AUTH_CODES = """
    *invalidapikey *apikeyinvalid invalidkey invalidaccesskey invalidsubscriptionkey authentication*
    unauthenticated unauthorized* accesstoken* expired*token* *tokenexpired invalidtoken tokeninvalid
    unrecognizedclient invalidsignature signaturedoesnotmatch incompletesignature signatureexpired
    missingauthenticationtoken invalidclienttokenid credentialsmissing invalidauth* noauth* *apikeyexpired
    invalidcredential* apikeynotfound missingapikey requestexpired requesttimetooskewed keydisabled
"""

ACCOUNT_CODES = """
    *ipnotauthorized *organizationrestricted unsupportedcountry* consumer* servicedisabled apikey*blocked
    usagenotincluded iampermissiondenied userprojectdenied optinrequired *accountsuspended userblocked accessterminated
"""

PERMISSION_CODES = "permission* *permissiondenied accessdenied forbidden thecallerdoesnothavepermission*"

MODEL_CODES = """
    *modelnotfound *invalidmodel* modelnotexist* unknownmodel *modeldecommissioned modeldeprecated
    *deploymentnotfound *modelnotsupported unavailablemodel nosuchmodel unsupportedmodel modelnotavailable
    *modeldoesnotexist resourcenotfound somerequestedentity*
"""

CONTEXT_CODES = """
    *contextlength* *contextsize* *contextwindow* maxtokensexceeded tokenlimitexceeded input*toolong prompttoolong
    maxtokenslimit* tokenslimitreached
"""

PAYLOAD_CODES = "requesttoolarge payloadtoolarge* *entitytoolarge* contenttoolarge *bodytoolarge"

VAGUE_REQUEST_CODES = """
    invalidrequest badrequest validation invalidargument invalidvalue invalidprompt unprocessable* image*
    invalidimage* emptyimage* unsupported* failedtodownloadimage dataresidencymismatch missing
"""

VAGUE_SERVER_CODES = """
    server api upstream* generation incompletegeneration* provider* model* badresponse* unknown* unmapped
"""
