"""Ollama's own ``/api/chat`` (documentation of 2026-10).

One JSON object a line in streams, the last with ``done: true``; an error is a line that holds nothing else.  A request
without ``stream`` asks for a stream.  Tool calls have no identifiers (newer servers send some; they are kept).

A request and its answer::

    {"model": "qwen3", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "options": {"num_predict": 9}}

    {"model": "qwen3", "message": {"role": "assistant", "content": "Scattering."}, "done": true,
     "done_reason": "stop", "prompt_eval_count": 13, "eval_count": 3}
"""

from __future__ import annotations

from resilient_llm.wire.ollama import answer, request, stream
from resilient_llm.wire.ollama.parts import WIRE
from resilient_llm.wire.protocol import JsonCodec

__all__ = ["CODEC", "WIRE"]

CODEC = JsonCodec(
    name=WIRE,
    write_request=request.encode_request,
    read_answer=answer.decode_response,
    write_answer=answer.encode_response,
    write_error=answer.encode_error,
    write_stream_error=stream.error_frame,
    make_decoder=stream.Decoder,
    make_encoder=lambda _asked: stream.Encoder(),
)
