"""fi_stream: federated inference as an event stream."""
