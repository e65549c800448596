"""The same client underneath the vendors' own SDKs, as their HTTP client.

::

    from openai import OpenAI
    from resilient_llm import ResilientClient, mount

    llm = mount(OpenAI, ResilientClient([...]))  # a real openai.OpenAI; other vendors answer inside

``mount.transport(client)`` is for those who build their HTTP client themselves.  See ``docs/mount.md``.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from resilient_llm.mount.sdks import Mount, mount
from resilient_llm.mount.transports import Transport

__all__ = ["Mount", "Transport", "mount", "transport"]

transport: type[Transport] = Transport
"""What :meth:`Mount.transport` makes."""


class _Callable(ModuleType):
    """This module, which can be called: ``resilient_llm.mount(...)`` is ``resilient_llm.mount.mount(...)``."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return mount(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
