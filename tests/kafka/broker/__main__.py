"""Run one Kafka until interrupted: python -m tests.kafka.broker [--port PORT]. The first line is its address."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.kafka.broker import Broker, BrokerDiedError, UnavailableError


def main() -> int:
    """Start, print the address, wait for Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.broker", description="Run one Kafka until Ctrl-C.")
    parser.add_argument("--port", type=int, help="where it listens (default: a free port)")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Broker(wanted.port) as broker:
            print(broker.bootstrap, flush=True)
            broker.wait()
            print(f"the broker ended; its log:\n{broker.log()}", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        return 0
    except (BrokerDiedError, UnavailableError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
