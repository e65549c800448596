"""Cohere's ``/v2/chat`` (API reference of 2026-10).

Server-sent events with names, ``message-end`` last (``[DONE]`` follows, but not everywhere).  What the model says
before it calls tools, its ``tool_plan``, is a thought with an origin of its own, so that it goes back into its own
field.  Two token counts differ widely: ``tokens`` is what was processed, ``billed_units`` what is paid for.

A request and its answer::

    {"model": "command-a", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 99}

    {"id": "c1", "message": {"role": "assistant", "content": [{"type": "text", "text": "Scattering."}]},
     "finish_reason": "COMPLETE", "usage": {"tokens": {"input_tokens": 13, "output_tokens": 3}}}
"""

from __future__ import annotations

from resilient_llm.wire.cohere import answer, parts, request, stream
from resilient_llm.wire.protocol import codec_of

CODEC = codec_of(parts.WIRE, request.encode_request, answer, stream, request.decode_request)
