"""One version of a federation as all its members see it: `federation.toml` as a value."""

from __future__ import annotations

from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Annotated, Self

from annotated_types import Len
from pydantic import StringConstraints, model_validator

from fi_stream.events.envelope import event_bytes
from fi_stream.events.payloads import framed_length, response_length
from fi_stream.events.tensors import Datatype
from fi_stream.federation.policy import Form, Policy, Protection
from fi_stream.federation.roster import Card, Member, PublicKey, Role, Roster
from fi_stream.federation.settings import Settings, refuse
from fi_stream.federation.task import Task
from fi_stream.values import MemberId  # noqa: TC001  (pydantic reads it)

if TYPE_CHECKING:
    from collections.abc import Mapping


class Federation(Settings):
    """Task, roster and policy under one name; each part fits the others.

    `signing_key` is the Ed25519 key, 32 bytes, under which new versions of the roster are
    published; without it the members change only by new files and a new start of everyone.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$")]
    signing_key: Annotated[PublicKey, Len(32, 32)] | None = None
    task: Task
    policy: Policy = Policy()
    roster: Roster

    @model_validator(mode="after")
    def _fits(self) -> Self:
        refuse(
            [
                *self._roles_missing(),
                *self._secure_sums_in_vain(),
                *self._quorum_out_of_reach(),
                *self._gate_in_vain(),
                *self._rows_too_large(),
            ]
        )
        return self

    @cached_property
    def participants(self) -> frozenset[MemberId]:
        """The ids of all participants."""
        return frozenset(self.roster.having(Role.PARTICIPANT))

    @cached_property
    def sizes(self) -> Mapping[MemberId, float]:
        """How many training examples of each participant are believed; none of who says nothing.

        At most twice the median: whoever claims more gains no more by it.
        """
        members = (each for each in self.roster.members if Role.PARTICIPANT in each.roles)
        said = {each.id: each.examples for each in members if each.examples is not None}
        most = 2.0 * median(said.values()) if said else 0.0
        return {member: min(float(examples), most) for member, examples in said.items()}

    def share_of(self, member: MemberId) -> float:
        """A participant's size as a part of the largest: in (0, 1], 1 where it says none."""
        size = self.sizes.get(member)
        return 1.0 if size is None else size / max(self.sizes.values())

    @cached_property
    def aggregators(self) -> frozenset[MemberId]:
        """The ids of all aggregators."""
        return frozenset(self.roster.having(Role.AGGREGATOR))

    @cached_property
    def clients(self) -> frozenset[MemberId]:
        """The ids of all clients."""
        return frozenset(self.roster.having(Role.CLIENT))

    @property
    def default_rule(self) -> str:
        """The rule of a query that names none."""
        return self.policy.rules[0]

    @property
    def default_protection(self) -> Protection:
        """The protection of a query that names none."""
        return self.policy.protections[0]

    @property
    def answer_width(self) -> int:
        """How many numbers a row of an answer has at most: one weight beside probabilities."""
        return len(self.task.classes) + (self.policy.form is Form.PROBABILITIES)

    def response_bytes(self, rows: int) -> int:
        """The most that a whole response event of so many rows takes."""
        payload = framed_length(response_length(rows, self.answer_width))
        return event_bytes(payload, 1 + len(self.aggregators))

    def member(self, member_id: str) -> Member | None:
        """The member of that name, or None."""
        return self.roster.member(member_id)

    def card(self, member_id: str) -> Card | None:
        """The public card of that member, or None."""
        member = self.roster.member(member_id)
        return member and Card(
            id=member.id, signing_key=member.signing_key, sealing_key=member.sealing_key
        )

    @cached_property
    def least_answers(self) -> int:
        """Of how many answers a sum may be asked: the quorum, or k_min if that is more."""
        secagg = self.policy.secagg
        return max(self.policy.quorum, secagg.k_min if secagg else 0)

    def _roles_missing(self) -> list[str]:
        return [
            f'members: none has the role {role}; add `roles = ["{role}"]` to one'
            for role in Role
            if not self.roster.having(role) and (role is not Role.HELPER or self._sums)
        ]

    @property
    def _sums(self) -> bool:
        return Protection.SECAGG in self.policy.protections

    def _secure_sums_in_vain(self) -> list[str]:
        helpers = self.roster.having(Role.HELPER)
        secagg = self.policy.secagg
        mistakes = []
        if self._sums is (secagg is None):
            mistakes.append(
                "policy.secagg: protection secagg needs it; add [policy.secagg] with `k_min`"
                if self._sums
                else "policy.secagg: means nothing without protection secagg; remove it"
            )
        if len(helpers) > 1:
            mistakes.append(
                f"members: {', '.join(helpers)} all have the role helper; keep one member, whose "
                "processes share one store: it is what keeps a second set from being released"
            )
        if both := sorted(self.aggregators & set(helpers)):
            mistakes.append(
                f"members: {both[0]} is aggregator and helper, and could open every answer alone; "
                "give the roles to two members that do not work together"
            )
        if secagg and secagg.k_min > len(self.participants) > 0:
            mistakes.append(
                f"policy.secagg.k_min: {secagg.k_min} answers can never come from "
                f"{len(self.participants)} participants; write {len(self.participants)} or less"
            )
        return mistakes

    def _quorum_out_of_reach(self) -> list[str]:
        quorum, there = self.policy.quorum, len(self.participants)
        if quorum <= there or not there:
            return []
        reach = f"{quorum} answers can never come from {there} participants"
        return [f"policy.quorum: {reach}; write {there} or less"]

    def _gate_in_vain(self) -> list[str]:
        there = len(self.participants)
        if not self.policy.gate or there > 2 or not there:
            return []
        why = f"of {there} that differ nobody can tell who is wrong"
        return [f"policy.gate: {why}; write false, or add participants: it needs three or more"]

    def _rows_too_large(self) -> list[str]:
        # One row must fit whatever the level of protection; more rows are a matter of admission.
        row = sum(i.elements * _width(i.datatype) for i in self.task.inputs)
        answers = 4 * len(self.task.classes) * len(self.participants)
        if Protection.BLIND in self.policy.protections:
            answers = len(self.participants) * self.response_bytes(1)
        if self._sums:  # two halves, one within the other
            answers = max(answers, 16 * (len(self.task.classes) + 1))
        most = self.policy.limits.max_message_bytes
        return [
            f"policy.limits.max_message_bytes: {what} takes {size} bytes and {most} are allowed; "
            f"write {2 * size} or more, and set the broker's message.max.bytes to match"
            for what, size in (("one row of a query", row), ("the answers to one row", answers))
            if size > most
        ]


def _width(datatype: Datatype) -> int:
    # An element of BYTES has no fixed size: its length field alone is sure.
    return 4 if datatype is Datatype.BYTES else datatype.numpy.itemsize
