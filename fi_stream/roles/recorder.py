"""Keeps what an aggregator settles in a file, if the policy allows it."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fi_stream.aggregation.replay import recorded
from fi_stream.errors import ConfigError
from fi_stream.roles.recordings import Writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fi_stream.aggregation.facts import Settled
    from fi_stream.events.payloads import ResultPayload
    from fi_stream.federation.federation import Federation
    from fi_stream.federation.policy import Policy


@contextmanager
def recorder(file: Path | None, federation: Federation) -> Iterator[Recorder | None]:
    """Record to a new file; None where nobody asked for it.

    Raises:
        ConfigError: the policy does not allow it, or the file cannot be written.
    """
    if file is None:
        yield None
        return
    policy = federation.policy
    if not policy.recording:
        raise ConfigError(
            f"the policy of {federation.name} does not allow recording. "
            "Its members agree to it with `recording = true` under [policy]."
        )
    if policy.noisy_max is not None:
        raise ConfigError(
            "nothing can be recorded under [policy.noisy_max]: labels are picked by noise, and the "
            "answers without it are for the aggregator alone."
        )
    with Writer(file, federation.task.classes) as writer:
        yield Recorder(writer, policy)


class Recorder:
    """What was settled goes to the file, off the loop; what was not ours to open does not."""

    def __init__(self, writer: Writer, policy: Policy) -> None:
        self._writer = writer
        self._policy = policy

    async def settled(self, queries: Sequence[Settled], payloads: Sequence[ResultPayload]) -> None:
        """Keep these queries, whose results are published."""
        await asyncio.to_thread(self._write, queries, payloads)

    def _write(self, queries: Sequence[Settled], payloads: Sequence[ResultPayload]) -> None:
        for one, payload in zip(queries, payloads, strict=True):
            kept = recorded(one, payload, self._policy.quorum, gate=self._policy.gate)
            if kept is not None:
                self._writer.write(kept)
        self._writer.flush()
