"""The long-running loops that wire the rest: participant, aggregator, client."""
