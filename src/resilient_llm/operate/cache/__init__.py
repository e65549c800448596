"""Answers that are kept, and identical calls that are made once.  Off unless asked for; see ``docs/caching.md``."""

from resilient_llm.operate.cache.clients import AsyncCachedClient, CachedClient, cached
from resilient_llm.operate.cache.entry import Caching, Only, Stats
from resilient_llm.operate.cache.shelf import Memory, Store

__all__ = ["AsyncCachedClient", "CachedClient", "Caching", "Memory", "Only", "Stats", "Store", "cached"]
