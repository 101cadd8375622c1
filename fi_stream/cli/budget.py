"""`fi-stream budget`: what clients of a participant used up, and more for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fi_stream.federation.federation import Federation
    from fi_stream.privacy.accountant import Charge
    from fi_stream.privacy.ledger import Content, Line
    from fi_stream.roles.accounts import Priced, Terms

budget_app = typer.Typer(no_args_is_help=True)

MemberFile = Annotated[
    Path,
    typer.Argument(metavar="MEMBER.toml", help="Of whoever adds the noise."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@budget_app.command()
def show(file: MemberFile, as_json: AsJson = False) -> None:
    """Show what each client used up, and what all did together. Changes nothing."""
    import json

    asked = _asked(file)
    terms, content = asked.terms, _content(asked.terms)
    clients = [_account(terms, name, line) for name, line in sorted(content.lines.items())]
    together = _together(terms, content)
    if as_json:
        cost = {"amount": terms.cost.amount, "epsilon": terms.epsilon(terms.cost)}
        found = {
            "ledger": str(terms.ledger),
            "unit": content.unit.value,
            "mechanism": asked.mechanism,
            "delta": terms.delta,
            "row": cost,
            "clients": clients,
            "all": together,
        }
        print(json.dumps(found, indent=2))
        return
    _print(
        ("client", "answered", "reserved", "limit", "granted", "rows left"),
        [_cells(row) for row in (*clients, {"client": "all clients", "granted": None, **together})],
    )
    print(f"epsilon, {terms.epsilon(terms.cost):.4g} a row{_at(terms)}; {terms.ledger}")


@budget_app.command()
def grant(
    file: MemberFile,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="The client's name.")],
    epsilon: Annotated[float, typer.Argument(metavar="EPSILON", help="By how much more.")],
    note: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    as_json: AsJson = False,
) -> None:
    """Raise a client's limit for good; what runs already goes by it from its next look on."""
    import json
    import math
    from contextlib import closing

    from fi_stream.privacy.ledger import Ledger, Line

    if not (math.isfinite(epsilon) and epsilon > 0):
        raise typer.BadParameter(f"{epsilon} is not a positive number", param_hint="EPSILON")
    asked = _asked(file)
    terms, content = asked.terms, _content(asked.terms)
    _check_client(client, asked.federation, content, file)
    limit = _limit(terms, content.lines.get(client, Line()))
    more = terms.more(epsilon, limit, asked.noise)
    with closing(Ledger(terms.ledger, content.unit)) as ledger:
        raised = ledger.grant(client, more, f"{epsilon:g}", _who(), note)
    account = _account(terms, client, raised)
    if as_json:
        print(json.dumps(account, indent=2))
        return
    print(
        f"{client} may use up epsilon {account['limit']['epsilon']:.6g} now{_at(terms)}, of which "
        f"{account['reserved']['epsilon']:.6g} is used: {account['rows_left']} rows are left"
    )


@budget_app.command()
def history(file: MemberFile, as_json: AsJson = False) -> None:
    """List what was granted, and what was used up on each day of UTC. Changes nothing."""
    import json

    terms = _asked(file).terms
    rows = _events(_content(terms))
    if as_json:
        print(json.dumps({"ledger": str(terms.ledger), "history": rows}, indent=2))
        return
    unit = terms.cost.unit.removeprefix("nano_")
    _print(
        ("when", "what", "client", unit, "who", "note"),
        [
            (r["at"], r["what"], r["client"], f"{r['amount'] / 1e9:.6g}", r["who"], r["note"])
            for r in rows
        ],
    )


class _Asked(NamedTuple):
    mechanism: str
    noise: Priced
    terms: Terms
    federation: Federation


def _asked(file: Path) -> _Asked:
    """What a participant, or an aggregator that adds the noise, is to charge."""
    from fi_stream.errors import ConfigError
    from fi_stream.federation.files import load_federation, load_member
    from fi_stream.roles.accounts import priced, terms_of

    settings = load_member(file)
    federation = load_federation(settings.member.federation)
    mechanism, noise, privacy = priced(settings, federation)
    terms = terms_of(privacy, noise)
    if terms is None:
        raise ConfigError(
            f"{file}: mechanism {mechanism!r} under [privacy] charges nothing, so "
            "there is no budget: every answer is exact. Choose a mechanism with noise to have one."
        )
    return _Asked(mechanism, noise, _of_a_row(terms, federation), federation)


def _of_a_row(terms: Terms, federation: Federation) -> Terms:
    """Where all answers are parts of sums, a row costs what the policy says, not the member."""
    from dataclasses import replace

    from fi_stream.federation.policy import Protection
    from fi_stream.privacy.sums import SumNoise

    policy = federation.policy
    if policy.secagg is None or policy.protections != (Protection.SECAGG,):
        return terms
    return replace(terms, cost=SumNoise(policy.secagg).cost or terms.cost)


def _content(terms: Terms) -> Content:
    from fi_stream.privacy.ledger import other_unit, read

    content = read(terms.ledger)
    if content.unit is not terms.cost.unit:
        raise other_unit(terms.ledger, content.unit, terms.cost.unit)
    return content


def _check_client(client: str, federation: Federation, content: Content, file: Path) -> None:
    from fi_stream.errors import ConfigError
    from fi_stream.federation.mistakes import nearest

    known = {*federation.clients, *content.lines}
    if client not in known:
        raise ConfigError(
            f"{client!r} is no client of {file}'s federation, and never asked; "
            f"{nearest(client, known)}"
        )


def _account(terms: Terms, client: str, line: Line) -> dict[str, Any]:
    from fi_stream.privacy.accountant import Charge

    unit, limit = terms.cost.unit, _limit(terms, line)
    beside = terms.epsilon(limit) - terms.epsilon(terms.limit)
    return {
        "client": client,
        "answered": _amount(terms, Charge(unit, line.answered)),
        "reserved": _amount(terms, Charge(unit, line.reserved)),
        "limit": _amount(terms, limit),
        "granted": {"amount": line.granted, "epsilon": round(beside, 9)},
        "rows_left": max(0, limit.amount - line.reserved) // terms.cost.amount,
    }


def _together(terms: Terms, content: Content) -> dict[str, Any]:
    from fi_stream.privacy.accountant import Charge

    unit, limit = terms.cost.unit, terms.limit_all
    answered, reserved = (
        sum(getattr(line, name) for line in content.lines.values())
        for name in ("answered", "reserved")
    )
    left = None if limit is None else max(0, limit.amount - reserved) // terms.cost.amount
    return {
        "answered": _amount(terms, Charge(unit, answered)),
        "reserved": _amount(terms, Charge(unit, reserved)),
        "limit": None if limit is None else _amount(terms, limit),
        "rows_left": left,
    }


def _events(content: Content) -> list[dict[str, Any]]:
    """Grants and days, oldest first."""
    from datetime import UTC, datetime

    days = [
        {"at": d.day, "what": "used", "client": d.client, "amount": d.amount, "who": "", "note": ""}
        for d in content.days
    ]
    grants = [
        {
            "at": f"{datetime.fromtimestamp(g.at / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "what": "granted",
            "client": g.client,
            "amount": g.amount,
            "epsilon": g.epsilon,
            "who": g.who,
            "note": g.note,
        }
        for g in content.grants
    ]
    return sorted([*days, *grants], key=lambda event: str(event["at"]))


def _limit(terms: Terms, line: Line) -> Charge:
    from fi_stream.privacy.accountant import Charge

    return Charge(terms.limit.unit, terms.limit.amount + line.granted)


def _amount(terms: Terms, charge: Charge) -> dict[str, float]:
    return {"amount": charge.amount, "epsilon": terms.epsilon(charge)}


def _who() -> str:
    """Who runs this, as far as the machine knows."""
    import getpass
    import os
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    def shown(key: str) -> str:
        return "-" if row[key] is None else f"{row[key]['epsilon']:.4g}"

    left = "-" if row["rows_left"] is None else str(row["rows_left"])
    return (row["client"], *map(shown, ("answered", "reserved", "limit", "granted")), left)


def _at(terms: Terms) -> str:
    return f" at delta {terms.delta:g}" if terms.delta else ""


def _print(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title)
    for row in rows:
        table.add_row(*map(Text, row))  # a note may hold what rich takes for its marks
    Console().print(table)
