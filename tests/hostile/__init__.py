"""Attacks by raw sockets and by interrupts: short in the test suite, long as ``python -m tests.hostile``."""
