"""Load tests: fi_stream beside a bare pipeline and FastStream, on Apache Kafka (DESIGN 14)."""
