"""Secure sums as nobody else may read them: with the keys of leader and helper together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.events.refusals import Refusal
from fi_stream.events.sums import ReleasePayload
from fi_stream.sealing.keys import ContentKey
from fi_stream.sealing.seeds import open_seed
from fi_stream.secagg.sets import Identity
from fi_stream.secagg.shares import Bound, mask, opened

if TYPE_CHECKING:
    from fi_stream.aggregation.facts import Given
    from fi_stream.sealing.gate import Gate, Verified
    from fi_stream.transport.port import Record


def whole_label(helper: Gate, record: Record, given: Given) -> int | None:
    """The label of an answer whose leader's share was opened; None if it is none."""
    if given.half is None:
        return None
    event = helper.admit(record, "response")
    if event is None or isinstance(event, Refusal):
        return None
    reply, ask = event.header.reply, event.header.ask
    if reply is None or reply.share is None:
        return None
    key = helper.part_key(event, reply.share.epoch, "share")
    if not isinstance(key, ContentKey):
        return None
    seed = open_seed(key, event.header, reply.share)
    if isinstance(seed, Refusal):
        return None
    rows, columns = given.half.values.shape
    bound = Bound(reply.client, ask.query, reply.digest, event.header.sender, rows, columns)
    whole = opened(given.half.values, mask(seed, bound))
    return int(whole[0, :-1].argmax())


def set_of(event: Verified) -> str:
    """The digest of the set that a result is the sum of; empty if it is none."""
    release = event.open(ReleasePayload)
    return "" if isinstance(release, Refusal) else release.members.hex()


def name_of(client: str, query: str, digest: str) -> str:
    """A query as the helper's store names it."""
    return Identity(client, bytes.fromhex(query), bytes.fromhex(digest)).name.hex()
