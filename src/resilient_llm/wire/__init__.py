"""Pure codecs: bytes <-> the neutral model, and what an answer means.  No I/O."""
