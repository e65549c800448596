"""Log lines as JSON, for those who have no library of their own for that."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Final

from typing_extensions import override

from resilient_llm.operate.plain import Plain, plain

__all__ = ["JsonFormatter"]

_ORDINARY: Final = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_EVENT: Final = "otel.event.name"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time`` (UTC, RFC 3339), ``level``, ``logger``, ``message``, then ``event`` and every
    fact that came in ``extra`` under its own name, and ``exception`` with its traceback where there is one.

    ::

        handler = logging.StreamHandler()
        handler.setFormatter(JsonFormatter())
        logging.getLogger("resilient_llm").addHandler(handler)

    Serves every logger, not only this library's.  A line is ASCII, so that no stream refuses it and nobody takes a
    separator of Unicode for its end.  Values that JSON does not have become text; what is not a number
    (``nan``, ``inf``) becomes ``null``.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        facts: dict[str, Plain] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        event = record.__dict__.get(_EVENT)
        if event is not None:
            facts["event"] = str(event)
        extra = {name: value for name, value in record.__dict__.items() if name not in _ORDINARY and name != _EVENT}
        for name, value in extra.items():
            facts.setdefault(name, plain(value))
        if record.exc_info and record.exc_info[0] is not None:
            facts["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            facts["stack"] = self.formatStack(record.stack_info)
        return json.dumps(facts, allow_nan=False)
