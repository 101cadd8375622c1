"""Where events travel: a small port, the Kafka adapter behind it, and the brokers we can start."""
