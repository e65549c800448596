"""The vocabulary of what a request can need: one name for each thing, for planning, degradations and refusals.

Fields, blocks and files that only one wire knows are named by that wire instead: ``WIRE.field`` in degradations,
``only:WIRE``, ``opaque:WIRE`` and ``stored:WIRE`` in planning.
"""

from __future__ import annotations

from enum import StrEnum


class Feature(StrEnum):
    """Everything a request can hold beyond text from the user and the assistant."""

    # tools
    TOOLS = "tools"
    TOOL_NAME = "tool.name"  # a name of letters or a length that not every wire takes
    TOOL_STRICT = "tool.strict"
    TOOL_CHOICE_REQUIRED = "tool_choice.required"
    TOOL_CHOICE_NAME = "tool_choice.name"  # one tool that must be called
    TOOL_CHOICE_ALLOWED = "tool_choice.allowed"  # several tools to choose from, or some from which none need be chosen
    TOOL_CHOICE_NONE = "tool_choice.none"
    PARALLEL_TOOL_CALLS = "parallel_tool_calls"
    TOOL_CALL_ID = "tool_call.id"
    TOOL_CALL_NAME = "tool_call.name"
    TOOL_CALL_ARGUMENTS = "tool_call.arguments"  # that are no JSON object
    TOOL_RESULT_IS_ERROR = "tool_result.is_error"
    MEDIA_IN_TOOL_RESULT = "media_in_tool_result"
    BUILTIN_TOOLS = "builtin_tools"
    # media
    IMAGE = "image"
    IMAGE_URL = "image_url"
    AUDIO = "audio"
    AUDIO_URL = "audio_url"
    VIDEO = "video"
    VIDEO_URL = "video_url"
    DOCUMENT = "document"
    DOCUMENT_URL = "document_url"
    DOCUMENT_NAME = "document.name"
    FILE_ID = "file_id"
    MEDIA_TYPE = "media_type"
    MEDIA_OF_ASSISTANT = "media_of_assistant"
    # messages
    ANNOTATIONS = "annotations"
    MESSAGE_NAME = "message.name"
    DEVELOPER = "developer"
    SYSTEM = "system"  # a system prompt and nothing else
    SYSTEM_POSITION = "system_position"  # a system message after others
    ASSISTANT_FIRST = "assistant_first"
    PREFILL = "prefill"
    CACHE = "cache"  # marks up to where a prompt is cached
    # the answer
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"
    OUTPUT_DESCRIPTION = "output.description"
    OUTPUT_SCHEMA = "output.schema"  # keywords of a schema
    REASONING = "reasoning"  # asked for, or of earlier turns
    REASONING_EFFORT = "reasoning.effort"
    REASONING_BUDGET = "reasoning.budget"
    # settings
    N = "n"
    LOGPROBS = "logprobs"
    TOP_LOGPROBS = "top_logprobs"
    MAX_TOKENS = "max_tokens"
    STOP = "stop"
    SEED = "seed"
    USER = "user"
    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    TOP_K = "top_k"
    FREQUENCY_PENALTY = "frequency_penalty"
    PRESENCE_PENALTY = "presence_penalty"
    # fields of one wire that change the answer
    AUDIO_OUTPUT = "audio_output"
    BACKGROUND = "background"
    CACHED_CONTENT = "cached_content"
    CONTAINER = "container"
    CONTINUATION_TOKEN = "continuation_token"  # asks for the rest of an answer that the vendor divided
    CONVERSATION = "conversation"
    DOCUMENTS = "documents"
    FUNCTIONS = "functions"
    LOGIT_BIAS = "logit_bias"
    MODALITIES = "modalities"
    PREDICTION = "prediction"
    PREVIOUS_RESPONSE_ID = "previous_response_id"
    STORE = "store"
    STORED_PROMPT = "stored_prompt"  # a template at the vendor that holds the question, or part of it
    EMBEDDINGS = "embeddings"
    SEVERAL_INPUTS = "several_inputs"
