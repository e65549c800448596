# ruff: noqa: E501  # one case a line reads best
"""Answers written for these tests: documented meanings in other words, other shapes and other vendors' versions."""

from __future__ import annotations

import json

Case = tuple[str, int, object, str]


def openai(message: str, code: object = None, kind: str | None = "invalid_request_error") -> dict[str, object]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(kind: str, message: str, **more: object) -> dict[str, object]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_1"}


def google(code: int, status: str, message: str, *details: dict[str, object]) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def reason(word: str) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": word, "domain": "googleapis.com"}


def quota(*ids: str) -> dict[str, object]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name} for name in ids]}


def router(code: int, message: str, **metadata: object) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "metadata": metadata}, "user_id": "user_2"}


def workers(code: int, message: str) -> dict[str, object]:
    return {"errors": [{"code": code, "message": message}], "success": False, "result": {}, "messages": []}


def mistral(kind: str, message: object, code: str | None = None) -> dict[str, object]:
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def newapi(code: str, message: str = "upstream says no") -> dict[str, object]:
    return {"error": {"message": message, "type": "new_api_error", "param": "", "code": code}}


QUOTA: list[Case] = [
    ("openai", 429, openai("You exceeded your current quota.", "insufficient_quota", "insufficient_quota"), "quota_exhausted"),
    ("openai", 429, openai("Your account is not active, please check your billing details on our website.", "billing_not_active"),
     "quota_exhausted"),
    ("openai", 429, openai("You exceeded your current quota, please check your plan and billing details.", None, None), "quota_exhausted"),
    ("openai", 429, openai("Rate limit reached for gpt-4o in organization org-x on requests per day (RPD): Limit 200, Used 200, "
                           "Requested 1. Please try again in 7m12s.", "rate_limit_exceeded", "requests"), "quota_exhausted"),
    ("azure_openai", 429, openai("Your account has insufficient quota for this deployment.", "insufficient_quota", None), "quota_exhausted"),
    ("anthropic", 429, anthropic("rate_limit_error", "Limit reached.", details={"error_code": "enforced_spend_limit_reached"}),
     "quota_exhausted"),
    ("anthropic", 400, anthropic("invalid_request_error", "You have reached your specified API usage limits. You will regain access on "
                                 "2025-11-01 at 00:00 UTC."), "quota_exhausted"),
    ("anthropic", 429, anthropic("rate_limit_error", "Number of request tokens has exceeded your daily rate limit"), "quota_exhausted"),
    ("gemini", 402, google(402, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."), "quota_exhausted"),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", quota("GenerateContentPerDayPerProject"),
                           {"@type": "x/google.rpc.RetryInfo", "retryDelay": "17s"}), "quota_exhausted"),
    ("vertex_ai", 403, google(403, "PERMISSION_DENIED", "This API method requires billing to be enabled.", reason("BILLING_DISABLED")),
     "quota_exhausted"),
    ("xai", 429, {"code": "Some resource has been exhausted", "error": "Your team has used all available credits."}, "quota_exhausted"),
    ("xai", 403, {"code": "permission-denied", "error": "Your newly created team doesn't have any credits or licenses yet."},
     "quota_exhausted"),
    ("cloudflare_workers_ai", 429, workers(3036, "You have used up your daily free allocation of 10,000 neurons"), "quota_exhausted"),
    ("mistral", 402, {"detail": "Payment required"}, "quota_exhausted"),
    ("mistral", 429, mistral("rate_limited", "Requests limit exceeded for this month", "1300"), "quota_exhausted"),
    ("deepseek", 402, openai("Insufficient Balance", "invalid_request_error", "unknown_error"), "quota_exhausted"),
    ("fireworks", 412, {"error": "Account acme is suspended, possibly due to reaching the monthly spending limit"}, "quota_exhausted"),
    ("hf_inference", 402, {"error": "You have exceeded your monthly included credits for Inference Providers."}, "quota_exhausted"),
    ("openai_compatible_gateway", 403, newapi("insufficient_user_quota", "用户额度不足"), "quota_exhausted"),
    ("perplexity", 401, openai("You exceeded your current quota, please check your plan and billing details.", 401, "insufficient_quota"),
     "quota_exhausted"),
    ("openrouter", 402, router(402, "Insufficient credits. Add more using https://openrouter.ai/settings/credits"), "quota_exhausted"),
    ("openrouter", 429, router(429, "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"),
     "quota_exhausted"),
    ("openrouter", 429, router(429, "Rate limit exceeded", limit_source="openrouter_free_tier_daily"), "quota_exhausted"),
    ("openrouter", 403, router(403, "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys"), "quota_exhausted"),
    ("cohere", 429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month. You can continue to use it."},
     "quota_exhausted"),
    ("bedrock", 429, {"__type": "com.amazon.coral.service#ThrottlingException", "message": "Too many tokens per day, please wait."},
     "quota_exhausted"),
    ("groq", 429, openai("Rate limit reached for model `x` on tokens per day (TPD): Limit 100000, Used 99999, Requested 50.",
                         "rate_limit_exceeded", "tokens"), "quota_exhausted"),
    ("ollama", 429, {"error": "you've reached your weekly usage limit, please upgrade to continue"}, "quota_exhausted"),
    ("nvidia_nim", 402, {"status": 402, "title": "Payment Required", "detail": "Cloud credits expired"}, "quota_exhausted"),
    ("unheard_of", 400, {"msg": "your credit balance is too low, please top up"}, "quota_exhausted"),
    ("holysheep", 403, openai("Insufficient balance. Please recharge.", "insufficient_balance"), "quota_exhausted"),
]  # fmt: skip

RATE: list[Case] = [
    ("openai", 503, openai("Slow down.", "slow_down", "service_unavailable_error"), "rate_limited"),
    ("openai", 429, openai("Too many requests", None, None), "rate_limited"),
    ("openai", 429, {"error": "Too Many Requests"}, "rate_limited"),
    ("openai", 429, b"", "rate_limited"),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details.",
                           quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
                           {"@type": "x/google.rpc.RetryInfo", "retryDelay": "28s"}), "rate_limited"),
    ("vertex_ai", 503, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for aiplatform.googleapis.com/requests_per_minute"), "rate_limited"),
    ("gemini", 403, {"error": {"code": 403, "message": "User Rate Limit Exceeded", "errors": [{"reason": "userRateLimitExceeded"}]}},
     "rate_limited"),
    ("bedrock", 429, {"__type": "ThrottlingException", "message": "Too many tokens, please wait before trying again."}, "rate_limited"),
    ("bedrock", 400, {"__type": "ThrottlingException", "message": "Rate exceeded"}, "rate_limited"),
    ("mistral", 429, {"message": "Requests rate limit exceeded", "request_id": "b1"}, "rate_limited"),
    ("together", 429, {"error": {"message": "Dynamic limit", "type": "dynamic_token_limited"}}, "rate_limited"),
    ("fireworks", 429, {"error": {"object": "error", "type": "rate_limit", "message": "rate limit exceeded, please try again later"}},
     "rate_limited"),
    ("nvidia_nim", 429, {"status": 429, "title": "Too Many Requests"}, "rate_limited"),
    ("openai_compatible_gateway", 429, newapi("token_concurrency_limit_reached"), "rate_limited"),
    ("openrouter", 429, router(429, "Rate limit exceeded: free-models-per-min."), "rate_limited"),
    ("openrouter", 402, router(402, "Would exceed", reason="in_flight_budget_exhausted"), "rate_limited"),
    ("openrouter", 200, router(429, "Rate limited", error_type="rate_limit_exceeded"), "rate_limited"),
    ("cloudflare_edge", 429, "<html><head><title>Access denied | api used Cloudflare to restrict access | 1015</title></head></html>",
     "rate_limited"),
    ("hf_inference", 429, {"error": "You reached free usage limit (reset hourly). Please subscribe to a plan"}, "rate_limited"),
    ("anthropic", 200, anthropic("rate_limit_error", "This request would exceed your rate limit"), "rate_limited"),
    ("xai", 429, {"code": "The service is limited", "error": "Too many requests per minute for grok-4"}, "rate_limited"),
    ("cloudflare_workers_ai", 429, workers(971, "Please wait and consider throttling your request speed"), "rate_limited"),
    ("openai", 200, {"type": "error", "code": "rate_limit_exceeded", "message": "Rate limit reached for gpt-5", "sequence_number": 3},
     "rate_limited"),
    ("unheard_of", 429, [{"error": {"message": "slow", "code": "429"}}], "rate_limited"),
]  # fmt: skip

OVERLOADED: list[Case] = [
    ("openai", 503, openai("Our servers are busy.", "server_is_overloaded", "service_unavailable_error"), "overloaded"),
    ("azure_openai", 429, {"error": {"code": "429", "message": "The service is temporarily unable to process your request."}}, "overloaded"),
    ("azure_openai", 429, {"error": {"code": "too_many_requests", "message": "We're currently experiencing high demand."}}, "overloaded"),
    ("vertex_ai", 429, google(429, "RESOURCE_EXHAUSTED", "Resource exhausted, please try again later."), "overloaded"),
    ("mistral", 429, mistral("service_tier_capacity_exceeded", "Service tier capacity exceeded for this model.", "3505"), "overloaded"),
    ("bedrock", 429, {"__type": "ModelNotReadyException", "message": "Model is not ready for inference."}, "overloaded"),
    ("hf_tgi", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, "overloaded"),
    ("cloudflare_workers_ai", 429, workers(3040, "Capacity temporarily exceeded, please try again."), "overloaded"),
    ("groq", 498, openai("Flex tier capacity exceeded", "capacity_exceeded", "capacity_exceeded"), "overloaded"),
    ("anthropic", 529, b"", "overloaded"),
    ("vertex_ai", 529, anthropic("overloaded_error", "Overloaded"), "overloaded"),
    ("ollama", 529, anthropic("overloaded_error", "server busy"), "overloaded"),
    ("ollama", 503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, "overloaded"),
    ("llama_cpp", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, "overloaded"),
    ("cloudflare_edge", 503, "upstream connect error or disconnect/reset before headers. reset reason: overflow", "overloaded"),
    ("openai_compatible_gateway", 503, newapi("get_channel_failed", "No available channel"), "overloaded"),
    ("openai_compatible_gateway", 503, newapi("channel:no_available_key"), "overloaded"),
    ("openrouter", 429, router(429, "Provider returned error", limit_source="upstream_provider_shared_pool", provider_name="Venice",
                               raw="x/y:free is temporarily rate-limited upstream"), "overloaded"),
    ("openrouter", 200, {"error": {"message": "Overloaded", "code": 503}}, "overloaded"),
    ("gemini", 200, [google(503, "UNAVAILABLE", "The model is overloaded.")], "overloaded"),
    ("anthropic", 200, 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n', "overloaded"),
    ("deepseek", 200, {"choices": [{"finish_reason": "insufficient_system_resource", "message": {"content": "half"}}]}, "overloaded"),
    ("deepseek", 503, openai("Server overloaded", None, "server_error"), "overloaded"),
    ("hf_inference", 503, {"error": "Model x is currently loading", "estimated_time": 12.5}, "overloaded"),
]  # fmt: skip

ACCESS: list[Case] = [
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", reason("API_KEY_INVALID")), "auth"),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."), "auth"),
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***zz. You can obtain one at ..."},
     "auth"),
    ("nvidia_nim", 403, {"status": 403, "title": "Forbidden", "detail": "Authorization failed"}, "auth"),
    ("nvidia_nim", 401, {"status": 401, "title": "Unauthorized", "detail": "Authentication failed"}, "auth"),
    ("fireworks", 403, {"error": "unauthorized"}, "auth"),
    ("bedrock", 403, {"__type": "UnrecognizedClientException", "message": "The security token included in the request is invalid."}, "auth"),
    ("bedrock", 403, {"message": "The request signature we calculated does not match the signature you provided."}, "auth"),
    ("bedrock", 403, {"__type": "AccessDeniedException", "message": "Authentication failed: please make sure your API Key is valid."}, "auth"),
    ("mistral", 401, {"message": "No API key found in request", "request_id": "1"}, "auth"),
    ("openrouter", 401, router(401, "User not found."), "auth"),
    ("openrouter", 200, router(401, "No cookie auth credentials found", error_type="authentication"), "auth"),
    ("cloudflare_workers_ai", 401, workers(10000, "Authentication error"), "auth"),
    ("cloudflare_workers_ai", 400, workers(6003, "Invalid request headers"), "auth"),
    ("hf_tgi", 401, "", "auth"),
    ("cohere", 401, {"message": "no api key supplied"}, "auth"),
    ("together", 401, {"error": "Missing API key"}, "auth"),
    ("vertex_ai", 401, google(401, "UNAUTHENTICATED", "Request is missing required authentication credential."), "auth"),
    ("anthropic", 200, anthropic("authentication_error", "invalid x-api-key"), "auth"),
    ("openai", 403, openai("Country, region, or territory not supported", "unsupported_country_region_territory", "request_forbidden"),
     "permission"),
    ("gemini", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), "permission"),
    ("bedrock", 403, {"__type": "AccessDeniedException", "message": "User: arn:aws:iam::1:user/x is not authorized to perform: bedrock:InvokeModel"},
     "permission"),
    ("bedrock", 404, {"message": "Model use case details have not been submitted for this account."}, "permission"),
    ("cloudflare_workers_ai", 403, workers(5018, "This account is not allowed to access this model"), "permission"),
    ("openai_compatible_gateway", 403, newapi("access_denied"), "permission"),
    ("anthropic", 403, anthropic("permission_error", "Your API key does not have permission to use the specified resource."), "permission"),
    ("cloudflare_edge", 403, "error code: 1020", "permission"),
    ("openrouter", 403, router(403, "Forbidden", error_type="permission_denied"), "permission"),
]  # fmt: skip

REQUEST: list[Case] = [
    ("openai", 400, openai("This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens.",
                           "context_length_exceeded"), "context_length"),
    ("openai", 400, openai("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."),
     "context_length"),
    ("anthropic", 400, anthropic("invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"), "context_length"),
    ("bedrock", 400, {"__type": "ValidationException", "message": "Input is too long for requested model."}, "context_length"),
    ("bedrock", 400, {"__type": "ValidationException", "message": "expected maxLength: 50000, actual: 61234"}, "context_length"),
    ("bedrock", 400, {"message": "prompt tokens (220000) exceed model maximum (200000)"}, "context_length"),
    ("bedrock", 400, {"message": "toolConfig.tools.0.name: expected maxLength: 64, actual: 80"}, "bad_request"),
    ("cohere", 400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 8000 - received 9000"}, "context_length"),
    ("together", 422, {"error": {"message": "`inputs` tokens + `max_new_tokens` must be <= 8193. Given: 9000", "code": None}}, "context_length"),
    ("vllm", 400, openai("This model's maximum context length is 32768 tokens. However, you requested 1000 output tokens and your prompt "
                         "contains at least 32000 input tokens, for a total of at least 33000 tokens.", 400, "BadRequestError"), "context_length"),
    ("llama_cpp", 500, {"error": {"code": 500, "message": "input is too large to process. increase the physical batch size"}}, "context_length"),
    ("cloudflare_workers_ai", 413, workers(5021, "The estimated number of tokens exceeded this model context window limit (24000)"),
     "context_length"),
    ("unheard_of", 400, {"error": "Input length 140000 exceeds the maximum allowed input length of 131072 tokens."}, "context_length"),
    ("unheard_of", 400, {"error": "prompt token count of 130000 exceeds the limit of 128000"}, "context_length"),
    ("unheard_of", 400, {"error": {"message": "context window exceeds limit"}}, "context_length"),
    ("unheard_of", 400, {"error": {"message": "Your request exceeded model token limit: 262144"}}, "context_length"),
    ("unheard_of", 400, {"error": "tokens to keep from the initial prompt is greater than the context length"}, "context_length"),
    ("unheard_of", 400, {"code": 20015, "message": "number of input tokens (40000) has exceeded max_prompt_tokens (32768) limit"},
     "context_length"),
    ("openrouter", 400, router(400, "Too long", error_type="max_tokens_exceeded"), "context_length"),
    ("openai", 400, openai("Invalid 'user': string too long. Expected a string with maximum length 64, but got a string with length 90.",
                           "string_above_max_length"), "bad_request"),
    ("openai", 429, openai("Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 31538.",
                           "rate_limit_exceeded", "tokens"), "payload_too_large"),
    ("anthropic", 413, anthropic("request_too_large", "Request exceeds the maximum size"), "payload_too_large"),
    ("openai_compatible_gateway", 413, "<html><head><title>413 Request Entity Too Large</title></head></html>", "payload_too_large"),
    ("vertex_ai", 400, google(400, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 524288000 bytes."), "payload_too_large"),
    ("openai", 400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"),
     "content_filter"),
    ("azure_openai", 400, {"error": {"code": "content_filter", "message": "The response was filtered.", "innererror": {
        "code": "ResponsibleAIPolicyViolation"}}}, "content_filter"),
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "Generated image rejected by content moderation."}, "content_filter"),
    ("xai", 403, {"code": "The caller does not have permission", "error": "Content violates usage guidelines."}, "content_filter"),
    ("openrouter", 403, router(403, "Your chosen model requires moderation and your input was flagged", reasons=["violence"],
                               flagged_input="..."), "content_filter"),
    ("openrouter", 400, router(400, "Refused", error_type="refusal"), "content_filter"),
    ("openai", 200, {"object": "response", "status": "incomplete", "error": None, "incomplete_details": {"reason": "content_filter"}},
     "content_filter"),
    ("openai", 200, {"type": "response.failed", "response": {"status": "failed", "error": {"code": "bio_policy", "message": "No."}}},
     "content_filter"),
    ("gemini", 200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {}}, "content_filter"),
    ("vertex_ai", 200, {"candidates": [{"finishReason": "SAFETY"}]}, "content_filter"),
    ("bedrock", 200, {"output": {"message": {}}, "stopReason": "guardrail_intervened"}, "content_filter"),
    ("cohere", 200, {"id": "1", "finish_reason": "ERROR_TOXIC"}, "content_filter"),
    ("anthropic", 200, {"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 1}}, "content_filter"),
    ("mistral", 422, mistral("invalid_request_error", {"detail": [{"loc": ["body", "temperature"], "msg": "too big"}]}), "bad_request"),
    ("vllm", 501, {"error": {"message": "nope", "type": "NotImplementedError", "code": 501}}, "bad_request"),
    ("openai", 400, openai("Unsupported parameter: 'max_tokens' is not supported with this model.", "unsupported_parameter"), "bad_request"),
    ("openai", 400, openai("Invalid type for 'x': got the string '429 Too Many Requests'"), "bad_request"),
    ("anthropic", 400, anthropic("invalid_request_error", "messages: roles must alternate between user and assistant"), "bad_request"),
    ("groq", 400, openai("Failed to call a function.", "tool_use_failed"), "server_error"),
]  # fmt: skip

MODEL: list[Case] = [
    ("openai", 404, openai("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found"), "not_found_model"),
    ("openai", 403, openai("Project `p` does not have access to model `gpt-9`", "model_not_found"), "permission"),
    ("bedrock", 400, {"__type": "ValidationException", "message": "Invocation of model ID x with on-demand throughput isn't supported."},
     "not_found_model"),
    ("mistral", 400, mistral("invalid_model", "Invalid model: mistral-nope", "1500"), "not_found_model"),
    ("deepseek", 400, openai("Model Not Exist"), "not_found_model"),
    ("hf_inference", 400, openai("The requested model 'a/b' is not supported by any provider you have enabled.", "model_not_supported"),
     "not_found_model"),
    ("openrouter", 400, router(400, "foo/bar is not a valid model ID"), "not_found_model"),
    ("openrouter", 404, router(404, "No endpoints found for foo/bar."), "not_found_model"),
    ("groq", 400, openai("The model `x` has been decommissioned and is no longer supported.", "model_decommissioned"), "not_found_model"),
    ("openai_compatible_gateway", 503, newapi("model_not_found", "No available channel for model gpt-9 under group default"), "not_found_model"),
    ("azure_openai", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}},
     "not_found_model"),
    ("nvidia_nim", 404, "404 page not found", "misconfigured"),
    ("anthropic", 404, anthropic("not_found_error", "model: claude-9"), "not_found_model"),
    ("together", 404, {"error": {"message": "Unable to access model x. Please visit ...", "code": "model_not_available"}}, "not_found_model"),
    ("cohere", 404, {"message": "model 'x' was removed"}, "not_found_model"),
    ("gemini", 404, google(404, "NOT_FOUND", "models/gemini-0 is not found for API version v1beta"), "not_found_model"),
]  # fmt: skip

BROKEN: list[Case] = [
    ("openai", 500, b"\xff\xfe\x00", "server_error"),
    ("openai", 502, "<html><title>502 Bad Gateway</title></html>", "server_error"),
    ("bedrock", 424, {"__type": "ModelErrorException", "message": "The model failed", "originalStatusCode": 500}, "server_error"),
    ("hf_tgi", 424, {"error": "Request failed during generation: CUDA error", "error_type": "generation"}, "server_error"),
    ("hf_tgi", 200, {"error": "Incomplete generation", "error_type": "incomplete_generation_stream"}, "server_error"),
    ("hf_tgi", 200, {"error": {"message": "Request failed during generation", "http_status_code": 422}}, "server_error"),
    ("hf_tgi", 200, {"error": {"message": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
                               "http_status_code": 422}}, "context_length"),
    ("openrouter", 502, router(502, "Provider returned error", raw='{"error":{"type":"authentication_error","message":"bad key"}}',
                               provider_name="X"), "server_error"),
    ("openai_compatible_gateway", 401, newapi("channel:invalid_key", "invalid api key"), "server_error"),
    ("openai_compatible_gateway", 500, newapi("do_request_failed"), "server_error"),
    ("openai_compatible_gateway", 200, newapi("empty_response"), "server_error"),
    ("mistral", 200, {"choices": [{"finish_reason": "error", "message": {"content": "x"}}]}, "server_error"),
    ("cloudflare_workers_ai", 200, workers(5000, "internal"), "server_error"),
    ("gemini", 200, {"candidates": [{"finishReason": "UNEXPECTED_TOOL_CALL"}]}, "server_error"),
    ("bedrock", 200, {"output": {}, "stopReason": "malformed_tool_use"}, "server_error"),
    ("unheard_of", 200, "Internal Server Error", "server_error"),
    ("unheard_of", 200, {"status": 500, "title": "Internal Server Error"}, "server_error"),
    ("llama_cpp", 200, 'error: {"code":500,"message":"Compute error.","type":"server_error"}\n\n', "server_error"),
    ("ollama", 200, '{"response":"a","done":false}\n{"error":"an error was encountered while running the model"}\n', "server_error"),
    ("openai", 307, "", "misconfigured"),
    ("openai", 425, "", "server_error"),
    ("bedrock", 408, {"__type": "ModelTimeoutException", "message": "The model took too long."}, "timeout"),
    ("anthropic", 504, anthropic("timeout_error", "Request timed out"), "timeout"),
    ("anthropic", 200, anthropic("timeout_error", "Request timed out"), "timeout"),
    ("cloudflare_edge", 524, "", "timeout"),
    ("openai_compatible_gateway", 500, newapi("channel:response_time_exceeded"), "timeout"),
    ("openai", 200, {"type": "response.failed", "response": {"status": "failed", "error": {"code": "vector_store_timeout", "message": "-"}}},
     "timeout"),
    ("cohere", 504, {"message": "gateway timeout"}, "timeout"),
    ("cloudflare_edge", 521, "<html><title>521: Web server is down</title></html>", "connection"),
    ("cloudflare_edge", 523, "", "connection"),
    ("vertex_ai", 499, google(499, "CANCELLED", "The operation was cancelled."), "client_closed"),
    ("vertex_ai", 409, google(409, "ABORTED", "Concurrent modification"), "conflict"),
    ("openai", 409, openai("Lock timeout", None, "conflict_error"), "conflict"),
]  # fmt: skip

WRAPPED: list[Case] = [
    ("unheard_of", 400, json.dumps({"detail": json.dumps(openai("x", "context_length_exceeded"))}), "context_length"),
    ("unheard_of", 400, b'\xef\xbb\xbf{"error":{"code":"invalid_api_key","message":"no"}}', "auth"),
    ("unheard_of", 400, {"message": 'litellm.BadRequestError: OpenAIException - {"error":{"code":"content_filter","message":"no"}}'},
     "content_filter"),
    ("unheard_of", 500, {"errors": [{"message": {"code": "overloaded_error", "message": "x"}}]}, "overloaded"),
    ("unheard_of", 200, '{"choices":[{"message":{"content":"half an ans', "connection"),
    ("unheard_of", 200, " \n\n ", "timeout"),
    ("unheard_of", 200, 7, "server_error"),
    ("unheard_of", 200, {"base_resp": {"status_code": 1002, "status_msg": "rate limit exceeded"}}, "rate_limited"),
]  # fmt: skip

TRAPS: list[Case] = [
    (
        "anthropic",
        400,
        anthropic(
            "invalid_request_error",
            "max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens for claude-x",
        ),
        "bad_request",
    ),
    (
        "openai",
        400,
        openai(
            "max_tokens is too large: 100000. This model supports at most 16384 completion tokens, whereas you provided 100000."
        ),
        "bad_request",
    ),
    ("vllm", 400, openai("max_tokens must be at least 1, got -2.", 400, "BadRequestError"), "bad_request"),
    (
        "xai",
        422,
        "Failed to deserialize the JSON body into the target type: messages[0]: unknown variant `x`",
        "bad_request",
    ),
    ("openai", 400, openai("Missing required key 'messages'."), "bad_request"),
    ("openai", 400, openai("Unknown key 'foo' in response_format for this model"), "bad_request"),
    ("openai", 400, openai("Parameter 'functions' is not allowed for this request"), "bad_request"),
    ("openai", 400, openai("Messages are not allowed to be empty"), "bad_request"),
    ("openai", 400, openai("'temperature' is not supported for this model", "unsupported_value"), "bad_request"),
    (
        "bedrock",
        400,
        {"message": "The guardrail identifier or version provided in the request does not exist."},
        "bad_request",
    ),
    (
        "gemini",
        400,
        google(400, "INVALID_ARGUMENT", "Developer instruction is not enabled for models/gemma-3"),
        "bad_request",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "messages.2: `tool_use` ids were found without `tool_result` blocks"),
        "bad_request",
    ),
    ("openai", 400, openai("Unexpected token '<' in JSON, invalid api key name"), "bad_request"),
    ("openrouter", 404, router(404, "The image could not be fetched", error_type="image_not_found"), "bad_request"),
    (
        "azure_openai",
        401,
        {"error": {"code": "PermissionDenied", "message": "The principal lacks the required data action"}},
        "permission",
    ),
    (
        "openai",
        401,
        openai("You have insufficient permissions for this operation. Missing scopes: model.request."),
        "permission",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "This credential is only authorized for use with one product"),
        "permission",
    ),
    (
        "azure_openai",
        403,
        {"error": {"code": "403", "message": "Your resource has been blocked: it may violate our content policy."}},
        "permission",
    ),
    ("unheard_of", 403, {"message": "This account has been suspended for violating our policies"}, "permission"),
    ("openai", 413, openai("Request too large for this tier.", "rate_limit_exceeded", "tokens"), "payload_too_large"),
    (
        "openai",
        429,
        openai("Rate limit reached: Limit 6,000, Requested 7,000", "rate_limit_exceeded"),
        "payload_too_large",
    ),
    (
        "openai_compatible_gateway",
        429,
        newapi("entitlement_rpm_limit_exceeded", "too many requests per minute"),
        "rate_limited",
    ),
    ("openai_compatible_gateway", 400, "Failed to generate JSON. Please adjust your prompt.", "server_error"),
    ("groq", 400, {"error": {"message": "odd", "failed_generation": "{}"}}, "server_error"),
    ("openai_compatible_gateway", 408, "the request was aborted", "client_closed"),
    ("llama_cpp", 200, "error: something went wrong\n", "server_error"),
    ("vertex_ai", 200, {"candidates": [{"finishReason": "OTHER"}]}, "server_error"),
    ("unheard_of", 200, {"detail": "Not authenticated"}, "auth"),
    ("unheard_of", 200, {"message": "Unauthorized"}, "auth"),
    ("openai", 503, {"error": {"message": "The model is unavailable right now."}}, "overloaded"),
    ("openrouter", 200, {"error": {"message": "no", "code": "timeout"}}, "timeout"),
]

SEALED: list[Case] = [
    (
        "azure_openai",
        400,
        openai("The encrypted content gAAA...DQ== could not be verified.", code="invalid_encrypted_content"),
        "sealed_reasoning",
    ),
    (
        "openai",
        400,
        openai(
            "The encrypted content for item rs_0a18 could not be verified. Reason: Encrypted content could not be "
            "decrypted or parsed."
        ),
        "sealed_reasoning",
    ),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "Corrupted thought signature."), "sealed_reasoning"),
    (
        "gemini",
        400,
        google(400, "INVALID_ARGUMENT", "Function call is missing a thought_signature in functionCall parts."),
        "sealed_reasoning",
    ),
    (
        "openrouter",
        400,
        {
            "error": {
                "message": "Provider returned error",
                "code": 400,
                "metadata": {
                    "raw": '{"error": {"code": 400, "message": "Corrupted thought signature.", "status": "INVALID_ARGUMENT"}}'
                },
            }
        },
        "sealed_reasoning",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block"),
        "sealed_reasoning",
    ),
    (
        "anthropic",
        400,
        anthropic(
            "invalid_request_error",
            "messages.3.content.8: `thinking` or `redacted_thinking` blocks in the latest "
            "assistant message cannot be modified. These blocks must remain as they were in the original response.",
        ),
        "sealed_reasoning",
    ),
    (
        "bedrock",
        400,
        {"message": "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`."},
        "sealed_reasoning",
    ),
    ("anthropic", 500, anthropic("api_error", "Invalid signature in thinking block"), "server_error"),
    (
        "openai",
        400,
        openai("thinking is not supported with this tool, and blocks of it cannot be modified"),
        "bad_request",
    ),
]

CONVERSATIONS: list[
    Case
] = [  # what public issue threads of 2025 and 2026 show of conversations that another vendor began
    (
        "anthropic",
        400,
        anthropic(
            "invalid_request_error", "messages.3.content.1.thinking.signature.str: Input should be a valid string"
        ),
        "sealed_reasoning",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "messages.1.content.0.thinking.signature: Field required"),
        "sealed_reasoning",
    ),
    (
        "anthropic",
        400,
        anthropic(
            "invalid_request_error",
            "messages.5.content.0: If an assistant message contains any thinking blocks, the first block must be `thinking` or `redacted_thinking`. Found `text`.",
        ),
        "sealed_reasoning",
    ),
    (
        "anthropic",
        400,
        anthropic(
            "invalid_request_error",
            "messages.9.content.0: When thinking is disabled, an `assistant` message in the final position cannot contain `thinking`.",
        ),
        "sealed_reasoning",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "messages.7.content.0: Invalid `data` in `redacted_thinking` block"),
        "sealed_reasoning",
    ),
    (
        "openai",
        400,
        openai("Item 'rs_0c38' of type 'reasoning' was provided without its required following item."),
        "sealed_reasoning",
    ),
    (
        "openai",
        400,
        openai("Item 'fc_0c38' of type 'function_call' was provided without its required 'reasoning' item: 'rs_68'."),
        "sealed_reasoning",
    ),
    (
        "openai",
        404,
        openai("Item with id 'rs_68b1' not found. Items are not persisted when `store` is set to false."),
        "sealed_reasoning",
    ),
    (
        "xai",
        400,
        {"code": "Client specified an invalid argument", "error": "Could not decrypt the provided encrypted_content."},
        "sealed_reasoning",
    ),
    (
        "vertex_ai",
        400,
        google(400, "INVALID_ARGUMENT", "Unable to submit request because Thought signature is not valid.."),
        "sealed_reasoning",
    ),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "Thought signature verification failed."), "sealed_reasoning"),
    (
        "deepseek",
        400,
        openai("Missing `reasoning_content` field in the assistant message at message index 2."),
        "sealed_reasoning",
    ),
    (
        "deepseek",
        400,
        openai("The `reasoning_content` in the thinking mode must be passed back to the API."),
        "sealed_reasoning",
    ),
    (
        "moonshot",
        400,
        openai("thinking is enabled but reasoning_content is missing in assistant tool call message at index 2"),
        "sealed_reasoning",
    ),
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "thinking.budget_tokens: Input should be greater than or equal to 1024"),
        "bad_request",
    ),
    ("openai", 400, openai("Unknown parameter: 'input[2].encrypted_content'.", "unknown_parameter"), "bad_request"),
    # What is kept at a vendor concerns the request alone: neither the key nor the model is to blame.
    (
        "openai",
        404,
        openai("Previous response with id 'resp_1' not found.", "previous_response_not_found"),
        "bad_request",
    ),
    ("openai", 404, openai("No such File object: file-abc"), "bad_request"),
    ("anthropic", 404, anthropic("not_found_error", "File not found: file_011"), "bad_request"),
    ("gemini", 403, google(403, "PERMISSION_DENIED", "CachedContent not found (or permission denied)"), "bad_request"),
    (
        "gemini",
        403,
        google(403, "PERMISSION_DENIED", "You do not have permission to access the File abc or it may not exist."),
        "bad_request",
    ),
    ("ollama", 404, {"error": "model 'file-tuned' not found"}, "not_found_model"),
]

ELSEWHERE: list[Case] = [  # the same for what one account, plan or model refuses and another may take
    (
        "anthropic",
        400,
        anthropic("invalid_request_error", "The long context beta is not yet available for this subscription."),
        "permission",
    ),
    (
        "anthropic",
        429,
        anthropic("rate_limit_error", "Extra usage is required for long context requests."),
        "payload_too_large",
    ),
    ("anthropic", 500, anthropic("api_error", "Overloaded"), "overloaded"),
    (
        "openai",
        400,
        openai("Your organization must be verified to stream this model.", "unsupported_value"),
        "permission",
    ),
    (
        "openai",
        400,
        openai(
            "Invalid 'messages[1].content': string too long. Expected a string with maximum length 10485760, but got a string with length 10700000 instead.",
            "string_above_max_length",
        ),
        "payload_too_large",
    ),
    (
        "openai",
        404,
        openai("This model is only supported in v1/responses and not in v1/chat/completions."),
        "not_found_model",
    ),
    (
        "azure_openai",
        400,
        openai(
            "The chatCompletion operation does not work with the specified model, gpt-5-codex.", "OperationNotSupported"
        ),
        "not_found_model",
    ),
    ("moonshot", 400, openai("Your request exceeded model token limit: 262144 (requested: 270000)"), "context_length"),
    ("zhipu", 400, {"error": {"code": "1261", "message": "Prompt exceeds max length"}}, "context_length"),
    (
        "zhipu",
        429,
        {
            "error": {
                "code": "1308",
                "message": "Usage limit reached for 5 hour. Your limit will reset at 2026-01-10 20:00:00",
            }
        },
        "quota_exhausted",
    ),
    (
        "minimax",
        429,
        anthropic("rate_limit_error", "usage limit exceeded, 5-hour usage limit reached for Token Plan (2056)"),
        "quota_exhausted",
    ),
    ("minimax", 200, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}, "content_filter"),
    (
        "dashscope",
        403,
        {
            "error": {
                "code": "AllocationQuota.FreeTierOnly",
                "message": "The free tier of the model has been exhausted.",
            }
        },
        "quota_exhausted",
    ),
    (
        "dashscope",
        400,
        {
            "error": {
                "code": "invalid_parameter_error",
                "message": "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 98304]",
            }
        },
        "context_length",
    ),
    (
        "bedrock",
        400,
        {"message": "Access to Anthropic models is not allowed from unsupported countries, regions, or territories."},
        "permission",
    ),
]

GATEWAYS: list[Case] = [  # and for servers and gateways that are asked in OpenAI's words
    ("bedrock", 400, {"__type": "modelStreamErrorException", "message": "boom"}, "server_error"),
    ("azure_openai", 400, {"error": {"code": "BadRequest", "message": "API version not supported"}}, "misconfigured"),
    ("azure_openai", 400, openai("Unavailable model: gpt-4o", "unavailable_model"), "not_found_model"),
    ("gemini", 403, google(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers."), "auth"),
    ("bedrock", 400, {"message": "Operation not allowed"}, "permission"),
    ("ollama", 410, {"error": "qwen3-coder:480b-cloud was retired on 2026-09-01"}, "not_found_model"),
    (
        "vllm",
        400,
        openai("The decoder prompt (length 40000) is longer than the maximum model length of 32768."),
        "context_length",
    ),
    (
        "litellm",
        429,
        openai("No deployments available for selected model, Try again in 60 seconds.", "429"),
        "overloaded",
    ),
    ("litellm", 400, openai("Budget has been exceeded! Max budget: 10.0", "400", "budget_exceeded"), "quota_exhausted"),
    (
        "nvidia_nim",
        500,
        {"status": 500, "detail": "ResourceExhausted: Worker local total request limit reached (33/32)"},
        "overloaded",
    ),
    (
        "github_models",
        429,
        openai("Rate limit of 150 per 86400s exceeded for UserByModelByDay.", "RateLimitReached"),
        "quota_exhausted",
    ),
    (
        "github_models",
        413,
        openai("Request body too large for gpt-4o model. Max size: 8000 tokens.", "tokens_limit_reached"),
        "context_length",
    ),
    (
        "volcengine",
        429,
        openai("Your account has reached the set inference limit", "SetLimitExceeded", "TooManyRequests"),
        "quota_exhausted",
    ),
    (
        "siliconflow",
        200,
        {"code": 50505, "message": "Model service overloaded. Please try again later.", "data": None},
        "overloaded",
    ),
    (
        "siliconflow",
        200,
        {"code": 30001, "message": "Sorry, your account balance is insufficient", "data": None},
        "quota_exhausted",
    ),
    (
        "zhipu",
        200,
        {"choices": [{"message": {"content": "Hi"}, "finish_reason": "content_filter: SAFETY"}]},
        "content_filter",
    ),
    ("zhipu", 200, {"choices": [{"message": {"content": "Hi"}, "finish_reason": "overloaded"}]}, "server_error"),
]

CASES = [
    *GATEWAYS,
    *TRAPS,
    *SEALED,
    *CONVERSATIONS,
    *ELSEWHERE,
    *QUOTA,
    *RATE,
    *OVERLOADED,
    *ACCESS,
    *REQUEST,
    *MODEL,
    *BROKEN,
    *WRAPPED,
]
