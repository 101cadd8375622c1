"""The command line: `fi-stream VERB`, a file a verb."""

from fi_stream.cli.app import main

__all__ = ["main"]
