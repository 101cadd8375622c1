"""`fi-stream audit MEMBER.toml`: what a participant's answers really give away, from below."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fi_stream.roles.audit import Audited


def audit(
    file: Annotated[Path, typer.Argument(metavar="MEMBER.toml", help="Of whoever adds the noise.")],
    *,
    report: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the findings there.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw them there, as SVG.")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1_000, max=10_000_000, help="Answers; by epsilon if not given."),
    ] = None,
) -> None:
    """Play a game against somebody's noise, and say how much of epsilon is really given.

    A participant runs as always, with the [privacy] of its file, on a broker of this command
    alone and with a model that gives one of two predictions by a coin. Who reads its answers
    guesses the coins. An aggregator that adds the noise is played against as its client. Its own
    ledger, model and broker are not touched. Ends with 11 when more is given away than is claimed.
    """
    import asyncio
    import json

    from fi_stream.cli.audit_picture import svg
    from fi_stream.errors import ClaimRefuted
    from fi_stream.roles.audit import audit as play
    from fi_stream.roles.logs import configure_logs

    configure_logs("error")
    with _progress() as told:
        audited = asyncio.run(play(file, samples, told))
    found = _plain(audited)
    if report is not None:
        _write(report, json.dumps(found, indent=2) + "\n")
    if picture is not None:
        _write(picture, svg(audited))
    print(*_lines(found), sep="\n")
    if not audited.verdict.holds:
        raise ClaimRefuted(
            f"{file}: answers give away epsilon {found['epsilon_at_least']:.3g} or more a row, and "
            f"{found['claim']['epsilon']:g} is claimed: stop this participant, and report it as "
            "CONTRIBUTING.md says."
        )


def _plain(audited: Audited) -> dict[str, Any]:
    verdict = audited.verdict
    tried = verdict.tried
    return {
        "member": audited.member,
        "mechanism": audited.mechanism,
        "claim": {"epsilon": verdict.claim.epsilon, "delta": verdict.claim.delta},
        "holds": verdict.holds,
        "epsilon_at_least": verdict.epsilon,
        "confidence": 1 - verdict.alpha,
        "could_have_shown": verdict.ceiling,
        "answers": verdict.answers,
        "guess": {
            "looks_at": tried.looks_at,
            "yes_where_right": {"of": tried.trials[0], "said": tried.hits[0]},
            "yes_where_wrong": {"of": tried.trials[1], "said": tried.hits[1]},
            "right_at_least": tried.shares[0],
            "wrong_at_most": tried.shares[1],
        },
        "curve": [list(point) for point in verdict.curve],
    }


def _lines(found: dict[str, Any]) -> Iterator[str]:
    claim, guess = found["claim"], found["guess"]
    delta = f" at delta {claim['delta']:g}" if claim["delta"] else ""
    yield f"{found['member']}: {found['mechanism']}, epsilon {claim['epsilon']:g} a row{delta}"
    yield (
        f"given away: epsilon {found['epsilon_at_least']:.3g} or more, sure to "
        f"{100 * found['confidence']:g} %: the claim {'holds' if found['holds'] else 'is refuted'}"
    )
    right, wrong = guess["yes_where_right"], guess["yes_where_wrong"]
    yield (
        f"best guess: by {guess['looks_at']}, yes in {right['said']} of {right['of']} rows where "
        f"that is right and in {wrong['said']} of {wrong['of']} where it is wrong"
    )
    yield (
        f"{found['answers']} answers; as many could have shown up to "
        f"{found['could_have_shown']:.3g}"
    )
    if found["could_have_shown"] < claim["epsilon"]:
        yield "so few answers cannot refute this claim: ask more with --samples"


def _write(file: Path, text: str) -> None:
    from fi_stream.errors import ConfigError

    try:
        file.write_text(text, "utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from None


def _progress() -> Any:
    """A bar on a terminal; elsewhere nothing."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def shown() -> Iterator[Callable[[int, int], None]]:
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("answers")

            def told(come: int, of: int) -> None:
                progress.update(task, completed=come, total=of)

            yield told

    return shown()
