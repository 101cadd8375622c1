"""The verbs of `fi-stream`: a table, and the one place where an error becomes an exit code.

Only the module of the verb that was asked for is imported, so that `--help` stays fast.

Exit codes:
    0    done
    1    a fault in fi_stream itself, with its traceback
    2    wrong usage of the command line
    3    a configuration file, key or option is wrong
    4    the model cannot be loaded, or does not fit the task
    5    topics are missing, or do not fit
    6    the broker could not be reached in time
    7    a key or grant of our own cannot be used
    8    a query does not fit the task or the policy
    9    no result came by the deadline
    10   asked to stop, and what was in hand was not finished in time
    11   an audit found that more is given away than is claimed
    130  stopped by Ctrl+C
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from fi_stream.errors import FiStreamError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Verb(NamedTuple):
    """Where a verb is (`module:name` in this folder) and its line in `--help`.

    The name is of a function, or of a small app for a verb with verbs of its own.
    """

    place: str
    line: str


VERBS = {
    "demo": Verb("demo:demo", "Watch five participants answer queries together"),
    "init": Verb("init:init", "Make a complete local federation in a new directory"),
    "keygen": Verb("keygen:keygen", "Make a member's private keys and its public card"),
    "check": Verb("check:check", "Find what is wrong in configuration files"),
    "doctor": Verb("doctor:doctor", "Look at a member's set-up from end to end"),
    "roster": Verb("roster:roster_app", "Change the members of a federation that runs"),
    "topics": Verb("topics:topics_app", "Make and show the topics"),
    "broker": Verb("broker:broker", "Run a broker for development in the foreground"),
    "participant": Verb("participant:participant", "Answer queries with a model of your own"),
    "aggregator": Verb("aggregator:aggregator", "Join the answers to results"),
    "helper": Verb("helper:helper", "Open secure sums, once for each query"),
    "budget": Verb("budget:budget_app", "Show what clients used up, and give one of them more"),
    "audit": Verb("audit:audit", "Try to tell two predictions apart by a participant's answers"),
    "ask": Verb("ask:ask", "Ask queries and print their results"),
    "tail": Verb("tail:tail", "Print a topic's events as they come, clear headers only"),
    "dead": Verb("dead:dead_app", "List, show and replay records that were refused"),
    "record": Verb("record:record", "Join the answers, and keep them in a file"),
    "replay": Verb("replay:replay", "Decide recorded queries again, by any rule"),
    "health": Verb("health:health", "Say how each participant does in recorded traffic"),
    "load": Verb("load:load", "Send queries at a steady rate and measure"),
}

_EPILOG = (
    "Exit codes: 0 done, 1 a fault in fi_stream, 2 usage, 3 configuration, 4 model, 5 topics, "
    "6 broker out of reach, 7 keys, 8 query, 9 no result, 10 stopped unfinished, 11 claim refuted, "
    "130 Ctrl+C."
)


def main() -> None:
    """Run the command line; every end is a SystemExit with a code of the list above."""
    try:
        failures = _run(sys.argv[1:])
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    raise SystemExit(failures[0].exit_code if failures else 0)


def app(asked: str | None) -> typer.Typer:
    """The command line with the verb `asked` in full, and of the others a line for `--help`."""
    whole = typer.Typer(
        help="Federated inference over an event stream.",
        epilog=_EPILOG,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # its tracebacks show local variables, keys among them
    )
    whole.callback()(_options)
    for name, verb in VERBS.items():
        loaded = _load(verb) if name == asked else _other_verb
        if isinstance(loaded, typer.Typer):
            whole.add_typer(loaded, name=name, help=verb.line)
        else:
            whole.command(name, short_help=verb.line)(loaded)
    return whole


def _run(words: list[str]) -> list[FiStreamError]:
    # No option before the verb takes a value: the first plain word is the verb.
    asked = next((word for word in words if not word.startswith("-")), None)
    failures: list[FiStreamError] = []
    try:
        app(asked)(words, prog_name="fi-stream")
    except* FiStreamError as group:  # the tasks of a role fail as a group
        failures = list(_leaves(group))
    return failures


def _leaves(group: BaseExceptionGroup[FiStreamError]) -> Iterator[FiStreamError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _load(verb: Verb) -> Any:
    module, name = verb.place.split(":")
    return getattr(import_module(f"fi_stream.cli.{module}"), name)


def _other_verb() -> None:
    """Stand in for a verb that was not asked for: it is listed, never run."""


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # takes 25 ms

        print(f"fi-stream {version('fi-stream')}")
        raise typer.Exit


def _options(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Take the options that stand before any verb."""
