"""Fill a topic: python -m tests.bench.programs.load BOOTSTRAP TOPIC RECORDS.

JSON of 10,000 users, 20,000 records per second of event time, out of order by up to 2 s.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np

from tests.kafka.broker import produce

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kafka.broker.client import Record

USERS, PER_MS, DISORDER_MS, BEGIN_MS = 10_000, 20, 2_000, 1_700_000_000_000


def events(records: int) -> Iterator[Record]:
    """Yield the same records every time."""
    rng = np.random.default_rng(1)
    users = rng.integers(0, USERS, records).tolist()
    amounts = rng.normal(100, 20, records).round(3).tolist()
    times = (BEGIN_MS + np.arange(records) // PER_MS - rng.integers(0, DISORDER_MS, records)).tolist()
    for user, amount, time in zip(users, amounts, times, strict=True):
        value = f'{{"user":"k{user}","amount":{amount},"ts":{time},"country":"NL","ok":true}}'
        yield f"k{user}".encode(), value.encode(), time, None


def main(bootstrap: str, topic: str, records: str) -> None:
    """Write them all."""
    produce(bootstrap, topic, events(int(records)))


if __name__ == "__main__":
    main(*sys.argv[1:])
