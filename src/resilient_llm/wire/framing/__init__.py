"""How events stand in a stream of bytes: server-sent events, JSON lines, AWS event stream."""
