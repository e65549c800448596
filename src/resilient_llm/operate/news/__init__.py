"""News that processes exchange through Redis or Valkey: which provider fails elsewhere, which asked others to wait.

::

    from resilient_llm.operate.news import share_news

    news = share_news(client, "redis://127.0.0.1:6379/0", group="shop")

Needs the extra ``redis``.  News are hints: they make a process more careful for a bounded time, and can neither block
nor fail a call.  Whatever the store does, calls go on without it; see ``docs/shared-news.md``.

``share_pace(client, url, group=)`` goes further where it is asked to: all processes together keep, exactly, to the
limits that are declared for providers.
"""

from __future__ import annotations

from resilient_llm.operate.news.pace import PaceStatus, SharedPace, share_pace
from resilient_llm.operate.news.shared import NewsStatus, SharedNews, share_news
from resilient_llm.operate.news.store import SupportsStream

__all__ = ["NewsStatus", "PaceStatus", "SharedNews", "SharedPace", "SupportsStream", "share_news", "share_pace"]
