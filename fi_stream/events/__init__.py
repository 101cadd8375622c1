"""What travels on the topics: headers, payloads, envelopes, and the reasons to refuse one."""
