"""`fi-stream doctor MEMBER.toml`: a member's set-up looked at from end to end, and the fix."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fi_stream.transport.finding import Finding

_CODES = {
    "files": 3,
    "permissions": 3,
    "topics": 5,
    "message size": 5,
    "grants": 7,
}
"""What each check ends with when it finds something wrong; the others are about the broker: 6."""


def doctor(
    file: Annotated[Path, typer.Argument(help="A member.toml.")],
    *,
    announce: Annotated[
        bool,
        typer.Option(
            "--announce", help="Also announce our grants: proves that we may, measures the clock."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at a member's set-up from end to end: each check, what was found, how to mend it.

    Files, permissions, names, ports, TLS, login, listeners, topics, message sizes, rights, clock,
    grants. Runs beside a role and changes nothing, but for --announce. Ends with 0 when nothing is
    wrong, else with the code of what is: 3 files, 5 topics, 6 the broker, 7 grants.
    """
    import asyncio
    import logging

    from fi_stream.roles.logs import configure_logs

    # What goes wrong is a finding, said once.
    configure_logs("critical")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    findings = asyncio.run(_examine(file, announce=announce))
    wrong = [one.check for one in findings if one.state == "wrong"]
    if as_json:
        checks = [
            {"check": one.check, "state": one.state, "finding": one.what, "fix": one.fix or None}
            for one in findings
        ]
        print(json.dumps({"ok": not wrong, "checks": checks}, indent=2))
    else:
        for one in findings:
            _print(one)
    raise typer.Exit(_CODES.get(wrong[0], 6) if wrong else 0)


async def _examine(file: Path, *, announce: bool) -> list[Finding]:
    from fi_stream.cli.findings import check_file
    from fi_stream.errors import ConfigError
    from fi_stream.federation.files import load_federation, load_member
    from fi_stream.roles import announced
    from fi_stream.roles.doctor import SetUp, examine_permissions, examine_topics
    from fi_stream.roles.seat import connection_of
    from fi_stream.transport.finding import ok, wrong
    from fi_stream.transport.network import examine_network

    checked = check_file(file)
    if checked.mistakes or checked.kind != "member":
        told = [str(mistake) for mistake in checked.mistakes] or [f"{file} is a {checked.kind}"]
        fix = "correct it; the rest is looked at when the files are right"
        return [wrong("files", one, fix) for one in told]
    findings = [ok("files", checked.summary)]
    settings = load_member(file)
    federation = load_federation(settings.member.federation)
    try:
        connection = connection_of(settings, federation)
    except ConfigError as error:
        return [*findings, wrong("message size", str(error), "as it says")]
    setup = SetUp(file, settings, federation, connection)
    findings += examine_permissions(setup)
    network = await examine_network(connection)
    findings += network
    if any(one.state == "wrong" for one in network):
        return findings
    topics = await examine_topics(setup)
    findings += topics
    if any(one.check == "topics" and one.state == "wrong" for one in topics):
        return findings
    if announce:
        findings += await announced.announce(setup)
    clock_known = any(one.check == "clock" for one in findings)
    return [*findings, *await announced.examine_grants(setup, clock_known=clock_known)]


def _print(one: Finding) -> None:
    print(f"{one.state:8} {one.check:13} {one.what}")
    if one.fix:
        print(f"{'':22} fix: {one.fix}")
