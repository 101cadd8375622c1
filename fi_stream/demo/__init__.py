"""The demonstration: a federation of digit readers, each role its own process, on this machine."""
