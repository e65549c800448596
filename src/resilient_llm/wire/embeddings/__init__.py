"""Embeddings, one module a wire: each has a ``CODEC`` (:class:`~resilient_llm.wire.protocol.EmbedCodec`)."""
