"""`python -m fi_stream.cli`: the command line, without its entry point being on the path."""

from fi_stream.cli import main

main()
