"""Programs that are measured side by side on one real Kafka."""
