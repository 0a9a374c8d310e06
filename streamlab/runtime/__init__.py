"""Where effects meet: threads, clocks, brokers, and the state on disk."""
