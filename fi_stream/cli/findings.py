"""All that can be said about one configuration file without running anything it names."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fi_stream.errors import ConfigError
from fi_stream.federation import reading
from fi_stream.federation.files import (
    membership_mistakes,
    read_card,
    read_federation,
    read_member,
)
from fi_stream.federation.member import OwnMechanism
from fi_stream.federation.mistakes import Mistake, located
from fi_stream.federation.roster import Role
from fi_stream.privacy.compatibility import refuse_aggregator, refuse_policy, refuse_privacy
from fi_stream.privacy.sums import refuse_own
from fi_stream.roles.rules import model_mistakes, refuse_rules
from fi_stream.roles.seat import refuse_sums
from fi_stream.sealing.identity import load_identities, sealing_key
from fi_stream.transport.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from fi_stream.federation.federation import Federation
    from fi_stream.federation.member import MemberSettings
    from fi_stream.federation.roster import Card


@dataclass(frozen=True, slots=True)
class Checked:
    """One file: what it was taken for, what is wrong, and a line about it when nothing is."""

    file: Path
    kind: str
    mistakes: tuple[Mistake, ...]
    summary: str = ""


def check_file(file: Path) -> Checked:
    """Recognise a file by the keys at its top level, and check it with all that it points to."""
    found = reading.read(file)
    if isinstance(found, Mistake):
        return Checked(file, "unreadable", (found,))
    checked = _judged(file, found.content.keys())
    return replace(checked, mistakes=tuple(located(checked.mistakes, file, found.lines)))


def _judged(file: Path, keys: Collection[str]) -> Checked:
    if not {"member", "kafka", "model", "privacy"}.isdisjoint(keys):
        return _member(file)
    if not {"task", "policy", "members"}.isdisjoint(keys):
        return _federation(file)
    if not {"signing_key", "sealing_key"}.isdisjoint(keys):
        return _card(file)
    what = (
        "is no file of ours; a federation.toml has [task], [policy] and [[members]], a member.toml "
        "has [member] and [kafka], a card has signing_key and sealing_key"
    )
    return Checked(file, "unknown", (Mistake(file, what),))


def _federation(file: Path) -> Checked:
    federation = read_federation(file)
    if isinstance(federation, list):
        return Checked(file, "federation", tuple(federation))
    mistakes = (*_roster(federation, file), *_rules(federation, file))
    return Checked(file, "federation", mistakes, _summary(federation))


def _card(file: Path) -> Checked:
    card = read_card(file)
    if isinstance(card, list):
        return Checked(file, "card", tuple(card))
    return Checked(file, "card", tuple(_usable(card, file)), f"of {card.id}")


def _member(file: Path) -> Checked:
    member = read_member(file)
    if isinstance(member, list):
        return Checked(file, "member", tuple(member))
    alone = (
        *_kafka(member, file),
        *_model(member, file),
        *_mechanism(member, file),
        *_ledger(member, file),
    )
    federation = read_federation(member.member.federation)
    if isinstance(federation, list):
        return Checked(file, "member", (*alone, *federation))
    mistakes = (
        *alone,
        *_roster(federation, member.member.federation),
        *_rules(federation, member.member.federation),
        *membership_mistakes(member, federation, file),
        *_keys(member, federation, file),
        *_noise(member, federation, file),
        *_rules_of(member, federation, file),
    )
    return Checked(file, "member", mistakes, f"{member.id} of {_summary(federation)}")


def _summary(federation: Federation) -> str:
    roster = federation.roster
    return f"{federation.name} version {roster.version}, {len(roster.members)} members"


def _roster(federation: Federation, file: Path) -> Iterator[Mistake]:
    for number, member in enumerate(federation.roster.members):
        yield from _usable(member, file, number)
    yield from _shared_keys(federation, file)


def _rules(federation: Federation, file: Path) -> Iterator[Mistake]:
    reason = refuse_policy(federation.policy)
    if reason is not None:
        key = "policy.rules" if federation.policy.noisy_max is None else "policy.noisy_max"
        yield Mistake(file, reason, key)
    if reason := refuse_rules(federation):
        yield Mistake(file, reason, "policy.rules")
    if reason := refuse_sums(federation):
        yield Mistake(file, reason, "policy.secagg")


def _usable(card: Card, file: Path, number: int | None = None) -> Iterator[Mistake]:
    try:
        sealing_key(card)
    except ConfigError as error:
        key = "sealing_key" if number is None else f"members[{number}].sealing_key"
        yield Mistake(file, str(error), key)


def _shared_keys(federation: Federation, file: Path) -> Iterator[Mistake]:
    """Two members with one key could each pass for the other."""
    for kind in ("signing_key", "sealing_key"):
        owners: dict[bytes, str] = {}
        for number, member in enumerate(federation.roster.members):
            first = owners.setdefault(getattr(member, kind), member.id)
            if first != member.id:
                what = (
                    f"{member.id} has the same key as {first}; "
                    "each member makes its own with `fi-stream keygen`"
                )
                yield Mistake(file, what, f"members[{number}].{kind}")


def _keys(member: MemberSettings, federation: Federation, file: Path) -> Iterator[Mistake]:
    if federation.member(member.id) is None:
        return  # said already
    try:
        load_identities(member, federation)
    except ConfigError as error:
        yield Mistake(file, str(error), "member.keys")


def _kafka(member: MemberSettings, file: Path) -> Iterator[Mistake]:
    try:
        Connection.of(member.kafka).client_arguments()
    except ConfigError as error:
        yield Mistake(file, str(error), "kafka")


def _noise(member: MemberSettings, federation: Federation, file: Path) -> Iterator[Mistake]:
    policy, entry = federation.policy, federation.member(member.id)
    wanted = {member.member.role} if member.member.role else entry.roles if entry else set()
    reasons = []
    if Role.PARTICIPANT in wanted and member.privacy is not None:
        reasons.append(refuse_privacy(policy, member.privacy))
        if policy.secagg is not None:
            reasons.append(refuse_own(policy.secagg, member.privacy))
    if Role.AGGREGATOR in wanted:
        reasons.append(refuse_aggregator(policy, member.privacy))
    for reason in filter(None, reasons):
        what = f"does not go with the policy of {member.member.federation}: {reason}"
        yield Mistake(file, what, "privacy.mechanism")


def _rules_of(member: MemberSettings, federation: Federation, file: Path) -> Iterator[Mistake]:
    """What a participant's model lacks for the policy's rules."""
    for key, why in model_mistakes(federation, member.model) if member.model else ():
        yield Mistake(file, why, f"model.{key}")


def _ledger(member: MemberSettings, file: Path) -> Iterator[Mistake]:
    for key, kept in (
        ("privacy.ledger", member.privacy and member.privacy.ledger),
        ("helper.store", member.helper and member.helper.store),
    ):
        if kept and not kept.parent.is_dir():
            what = f"there is no directory {kept.parent}; make it, the file itself will be made"
            yield Mistake(file, what, key)


def _model(member: MemberSettings, file: Path) -> Iterator[Mistake]:
    model = member.model
    if model is None:
        return
    for key, path in (
        ("model.onnx", model.onnx),
        ("model.exported", model.exported),
        ("model.held_out", model.held_out),
        ("model.training", model.training),
    ):
        if path is not None and not path.is_file():
            yield Mistake(file, f"there is no file {path}; check the path", key)
    if model.exported is not None and model.exported.is_file():
        with model.exported.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != model.sha256:
            what = (
                f"{model.exported} has {digest}; if you made this file yourself write that, "
                "if not do not load it"
            )
            yield Mistake(file, what, "model.sha256")
    if model.factory is not None:
        module = model.factory.partition(":")[0]
        if not _findable(module, member.directory):
            what = (
                f"there is no module {module} beside {file} or installed; "
                "check its name, or install it here"
            )
            yield Mistake(file, what, "model.factory")


def _mechanism(member: MemberSettings, file: Path) -> Iterator[Mistake]:
    if member.privacy is None or not isinstance(member.privacy.mechanism, OwnMechanism):
        return
    module = member.privacy.mechanism.partition(":")[0]
    top = module.partition(".")[0]
    if not top or find_spec(top) is None:
        what = f"there is no module {module} installed; check its name, or install it here"
        yield Mistake(file, what, "privacy.mechanism")


def _findable(module: str, directory: Path) -> bool:
    """Whether a module is beside the file, or its top level installed; nothing of it is run."""
    beside = directory.joinpath(*module.split("."))
    if beside.with_suffix(".py").is_file() or (beside / "__init__.py").is_file():
        return True
    return find_spec(module.partition(".")[0]) is not None
