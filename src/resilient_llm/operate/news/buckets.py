"""The buckets of shared limits, in Redis or Valkey: one script, which everything that is asked in a round goes into."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

from resilient_llm.operate.news.store import SupportsStream

_SCRIPT: Final = """\
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1e6
local worker, forgotten = ARGV[1], tonumber(ARGV[2])
local answers = {}
for i = 1, #KEYS, 3 do
  local bucket, seen, stocks, at = KEYS[i], KEYS[i + 1], KEYS[i + 2], 2 * i
  local limit, rate, stock = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local back, least, most = tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), tonumber(ARGV[at + 6])
  local told = redis.call('HMGET', bucket, 'level', 'at', 'out')
  local level, last, out = tonumber(told[1]) or limit, tonumber(told[2]) or now, tonumber(told[3]) or 0
  for _, gone in ipairs(redis.call('ZRANGEBYSCORE', seen, '-inf', now - forgotten)) do
    out = out - (tonumber(redis.call('HGET', stocks, gone)) or 0)
    redis.call('HDEL', stocks, gone)
    redis.call('ZREM', seen, gone)
  end
  local held = math.max(0, stock)
  out = math.max(0, out - (tonumber(redis.call('HGET', stocks, worker)) or 0)) + held
  level = math.min(math.max(0, limit - out), level + math.max(0, now - last) * rate + back)
  local debt = math.max(0, -stock)
  level = math.max(-limit, level - debt)
  redis.call('ZADD', seen, now, worker)
  local workers = redis.call('ZCARD', seen)
  local target = math.max(most, math.floor(level / (2 * workers)))
  local want, granted, wait = target - held, 0, 0
  if want > 0 then
    granted = math.floor(math.min(want, math.max(0, level)) + 1e-6)
    if granted < least - held then
      wait, granted = (least - held - level) / rate, 0
    end
  end
  level, out = level - granted, out + granted
  redis.call('HSET', bucket, 'level', string.format('%.9g', level), 'at', string.format('%.6f', now),
    'out', string.format('%.9g', out))
  redis.call('HSET', stocks, worker, string.format('%.9g', held + granted))
  local kept = math.ceil(limit / rate) + 60
  redis.call('EXPIRE', bucket, kept)
  redis.call('EXPIRE', seen, kept)
  redis.call('EXPIRE', stocks, kept)
  answers[#answers + 1] = string.format('%.9g %d %.9g %.9g', granted + debt, workers, math.max(0, wait), target)
end
return answers
"""
FORGOTTEN: Final = 3.0
"""Seconds after which a process that asked for nothing is no worker any more; what it had in stock counts as used."""
_MOST_WORKERS: Final = 10_000


class Asked(NamedTuple):
    """What a process says of one limit: ``amount`` units of which ``rate`` come back a second, ``stock`` of them here
    (below zero: taken without a grant), ``back`` given back; it needs ``least`` to be of use, and wants ``most``."""

    bucket: str
    amount: float
    rate: float
    stock: float
    back: float
    least: float
    most: float


class Answer(NamedTuple):
    """``granted`` units, debts included; so many ``workers`` there are; if less than the least was there, more is in
    ``wait`` seconds; ``target`` is what may be in stock."""

    granted: float
    workers: int
    wait: float
    target: float


class Buckets:
    """The shared buckets of a group.  Not safe for threads; may raise anything that its client raises."""

    def __init__(self, client: SupportsStream, group: str) -> None:
        self._client = client
        self._prefix = f"resilient_llm:pace:{{{group}}}"  # the braces keep a group in one slot of a cluster

    def exchange(self, worker: str, asked: Sequence[Asked]) -> list[Answer]:
        """Ask for all of it, in one round trip.  Raises ``ValueError`` for an answer that is none."""
        keys: list[object] = []
        numbers: list[object] = []
        for one in asked:
            keys += [f"{self._prefix}:{one.bucket}{suffix}" for suffix in ("", ":seen", ":stocks")]
            numbers += [f"{value:.9g}" for value in one[1:]]
        pipeline = self._client.pipeline(transaction=False)
        pipeline.execute_command("EVAL", _SCRIPT, len(keys), *keys, worker, FORGOTTEN, *numbers)
        (told,) = pipeline.execute()
        if not isinstance(told, list) or len(cast("list[object]", told)) != len(asked):
            raise ValueError("the store's answer is none")
        return [_answer(text, one) for text, one in zip(cast("list[object]", told), asked, strict=True)]


def _answer(text: object, asked: Asked) -> Answer:
    if not isinstance(text, bytes):
        raise ValueError("the store's answer is none")
    granted, workers, wait, target = (float(part) for part in text.split())
    if not all(map(math.isfinite, (granted, workers, wait, target))):
        raise ValueError("the store's answer is none")
    return Answer(
        min(max(0.0, granted), 2.0 * asked.amount),
        int(min(max(1.0, workers), _MOST_WORKERS)),
        max(0.0, wait),
        max(0.0, target),
    )
