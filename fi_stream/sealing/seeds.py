"""The helper's share of an answer in the header of the leader's: a seed sealed to the helper alone.

The one tag over the header covers it; it is bound to the query, the participant and its own id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fi_stream.events.codec import pack
from fi_stream.events.header import VERSION, Share
from fi_stream.events.refusals import Reason, Refusal

if TYPE_CHECKING:
    from fi_stream.events.header import Ask, Header
    from fi_stream.sealing.epochs import OwnEpoch
    from fi_stream.sealing.keys import ContentKey
    from fi_stream.values import MemberId


def seal_seed(
    epoch: OwnEpoch, ask: Ask, asked: tuple[MemberId, bytes], share: bytes, seed: bytes
) -> Share:
    """Seal a seed under our epoch of purpose `share`.

    Args:
        epoch: ours; its sender is the participant.
        ask: what was asked.
        asked: the client, and the digest of the query's event.
        share: 16 bytes, the id of both shares.
        seed: 32 bytes.
    """
    client, digest = asked
    bound = _bound((client, ask.query, digest), epoch.epoch.sender, share, epoch.epoch.epoch)
    nonce, sealed = epoch.seal_part(bound, seed)
    return Share(id=share, epoch=epoch.epoch.epoch, nonce=nonce, sealed=sealed)


def open_seed(content: ContentKey, header: Header, share: Share) -> bytes | Refusal:
    """Open the share of a verified answer: 32 bytes."""
    if header.reply is None:
        return Refusal(Reason.BAD_SHARE, f"a {header.type} has no share")
    query = (header.reply.client, header.ask.query, header.reply.digest)
    bound = _bound(query, header.sender, share.id, share.epoch)
    seed = content.open(bound, share.nonce, share.sealed)
    return Refusal(Reason.BAD_SHARE, f"of {header.sender}") if seed is None else seed


def _bound(
    query: tuple[MemberId, bytes, bytes], participant: MemberId, share: bytes, epoch: bytes
) -> bytes:
    client, query_id, digest = query
    return b"fi_stream seed\0" + pack(
        {
            "v": VERSION,
            "client": client,
            "query": query_id,
            "digest": digest,
            "participant": participant,
            "share": share,
            "epoch": epoch,
        }
    )
