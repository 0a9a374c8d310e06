"""Where records come from and where results go: Kafka, files, memory, and the formats of their payloads."""
