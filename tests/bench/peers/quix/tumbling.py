"""Count, sum and mean per user and 10 s, 2 s grace, final results to Kafka, by Quix Streams.

python tumbling.py BOOTSTRAP TOPIC RESULTS RECORDS, in an environment of its own (requirements.txt). Prints one JSON
line. No changelog topics: that is its fastest.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import timedelta

from quixstreams import Application
from quixstreams.dataframe.windows.aggregations import Count, Mean, Sum


class Counter:
    """Counts records, and ends the application after the last one."""

    def __init__(self, app: Application, records: int) -> None:
        self.app, self.records, self.seen, self.began = app, records, 0, 0.0

    def __call__(self, event: dict[str, object]) -> dict[str, object]:
        """Count one."""
        if not self.seen:
            self.began = time.perf_counter()
        self.seen += 1
        if self.seen == self.records:
            seconds = time.perf_counter() - self.began
            print(json.dumps({"records": self.seen, "seconds": round(seconds, 3)}), flush=True)
            self.app.stop()
        return event


def main(bootstrap: str, topic: str, results: str, records: str) -> None:
    """Run until the given number of records has come."""
    with tempfile.TemporaryDirectory() as state:
        app = Application(
            broker_address=bootstrap,
            consumer_group=results,
            auto_offset_reset="earliest",
            state_dir=state,
            loglevel="ERROR",
            use_changelog_topics=False,
            auto_create_topics=False,
            commit_interval=1.0,
        )
        events = app.topic(
            topic, value_deserializer="json", timestamp_extractor=lambda event, _headers, _time, _kind: event["ts"]
        )
        windows = (
            app.dataframe(events)
            .apply(Counter(app, int(records)))
            .tumbling_window(timedelta(seconds=10), grace_ms=timedelta(seconds=2))
            .agg(n=Count(), total=Sum("amount"), mean=Mean("amount"))
            .final()
        )
        windows.to_topic(app.topic(results, value_serializer="json"))
        app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
