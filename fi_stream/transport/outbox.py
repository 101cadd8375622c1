"""Events on their way out: one batch per partition, shared by whoever publishes meanwhile.

aiokafka sends one request per broker at a time. An event that comes while a batch still waits for
its turn joins that batch, so that many small sends cost few requests; no event has a task or a
future of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import KafkaError, KafkaTimeoutError, ProducerClosed
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from fi_stream.clock import BrokerClock
from fi_stream.errors import BrokerError, ConfigError, SendRefused, SendUnknown
from fi_stream.transport.port import Appended, Outgoing, Partition
from fi_stream.values import Millis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import AIOKafkaProducer

    from fi_stream.clock import Clock
    from fi_stream.values import BrokerMillis

_LOG_APPEND_TIME: Final = 1
_BATCH_HEADER: Final = 61
"""Bytes of a record batch before its first record (Kafka's message format 2)."""


class _Batch:
    """Some events of one partition, appended by the broker together."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder
        self.acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        """Becomes the broker's answer, or the error; never an exception, which nobody may read."""

    def take(self, event: Outgoing, at: BrokerMillis) -> int | None:
        """Add an event and say its place, or None when the batch is full or already sent."""
        if self.acknowledged.done():
            return None
        place: int = self._builder.record_count()
        taken = self._builder.append(
            timestamp=at, key=event.key, value=event.value, headers=list(event.headers)
        )
        return None if taken is None else place

    async def submit(self, producer: AIOKafkaProducer, target: Partition) -> None:
        """Hand the batch to aiokafka; returns as soon as the partition has a free slot."""
        try:
            sent = await producer.send_batch(self._builder, target.topic, partition=target.number)
        except KafkaError as error:
            self.settle(error)
        else:
            sent.add_done_callback(self._on_sent)

    def _on_sent(self, sent: asyncio.Future[Any]) -> None:
        if not sent.cancelled():
            self.settle(sent.exception() or sent.result())

    def settle(self, outcome: object) -> None:
        """Tell those who wait; the first outcome holds."""
        if not self.acknowledged.done():
            self.acknowledged.set_result(outcome)


class _Lane:
    """The batches of one partition, in order; the last one still takes events."""

    def __init__(self, producer: AIOKafkaProducer, target: Partition) -> None:
        self._producer = producer
        self._target = target
        self._last: _Batch | None = None
        self._waiting: deque[_Batch] = deque()
        self._submitting: asyncio.Task[None] | None = None

    def add(self, event: Outgoing, at: BrokerMillis) -> tuple[_Batch, int]:
        """Put an event into the last batch, or a new one; returns the batch and the place in it."""
        if self._last is not None:
            place = self._last.take(event, at)
            if place is not None:
                return self._last, place
        batch = _Batch(self._producer.create_batch())
        place = batch.take(event, at)
        assert place is not None  # noqa: S101 -- an empty batch takes any event
        self._last = batch
        self._waiting.append(batch)
        if self._submitting is None:
            self._submitting = asyncio.create_task(
                self._submit(), name=f"outbox {self._target.topic}[{self._target.number}]"
            )
        return batch, place

    async def close(self) -> None:
        """Stop submitting; what was not submitted is not sent, and its senders are told."""
        if self._submitting is not None:
            self._submitting.cancel()
            await asyncio.wait([self._submitting])
        for batch in self._waiting:
            batch.settle(ProducerClosed())

    async def _submit(self) -> None:
        try:
            while self._waiting:
                await self._waiting[0].submit(self._producer, self._target)
                self._waiting.popleft()
        finally:
            self._submitting = None


class Outbox:
    """Appends events and waits for the broker's acknowledgements.

    Args:
        producer: started; owned by the caller.
        clock: for send times, and for the create time that brokers without append time keep.
        limit: bytes of the largest batch.
        give_up_after: seconds without an acknowledgement until a send is unknown.
        append_time: whether acknowledgements carry the broker's time.
    """

    def __init__(
        self,
        producer: AIOKafkaProducer,
        clock: Clock,
        *,
        limit: int,
        give_up_after: float,
        append_time: bool,
    ) -> None:
        self._producer = producer
        self._clock = BrokerClock(clock, Millis(0))  # no step of the wall clock moves it
        self._limit = limit
        self._give_up_after = give_up_after
        self._append_time = append_time
        self._lanes: dict[Partition, _Lane] = {}

    def check(self, events: Sequence[Outgoing]) -> None:
        """Refuse events that no batch can hold, before any is sent.

        Raises:
            ConfigError: an event is larger than message.max.bytes.
        """
        for event in events:
            size = _BATCH_HEADER + DefaultRecordBatchBuilder.estimate_size_in_bytes(
                event.key, event.value, list(event.headers)
            )
            if size > self._limit:
                raise ConfigError(
                    f"an event of {size:,} bytes for {_name(event.target)} is larger than "
                    f"message.max.bytes = {self._limit:,}, and nothing was sent: send fewer rows "
                    "in a query, or raise message.max.bytes here and max.message.bytes of the "
                    "topic on the broker."
                )

    async def send(self, events: Sequence[Outgoing]) -> list[Appended]:
        """Append all, and wait for every acknowledgement.

        Raises:
            SendUnknown: an acknowledgement did not come in time.
            SendRefused: the broker refused.
        """
        sent, at = self._clock.monotonic(), self._clock.now()
        places: dict[_Batch, tuple[Partition, int]] = {}
        for event in events:
            lane = self._lanes.get(event.target)
            if lane is None:
                lane = self._lanes[event.target] = _Lane(self._producer, event.target)
            batch, place = lane.add(event, at)
            places.setdefault(batch, (event.target, place))
        waiting = [batch.acknowledged for batch in places]
        if waiting:
            await asyncio.wait(waiting, timeout=self._give_up_after)
        appended, failed = [], {}
        for batch, (target, place) in places.items():
            answer = batch.acknowledged.result() if batch.acknowledged.done() else None
            if answer is None or isinstance(answer, BaseException):
                failed[target] = answer
            else:
                stamped = self._append_time and answer.timestamp_type == _LOG_APPEND_TIME
                appended.append(
                    Appended(
                        target, answer.offset + place, sent, answer.timestamp if stamped else None
                    )
                )
        if failed:
            raise _failure(failed, self._give_up_after)
        return appended

    async def close(self) -> None:
        """Stop; events that no request carries yet are not sent."""
        for lane in self._lanes.values():
            await lane.close()


def _failure(failed: dict[Partition, BaseException | None], waited: float) -> BrokerError:
    """The error that says what is known: refused only if the broker surely appended nothing."""
    names = ", ".join(_name(target) for target in failed)
    for error in failed.values():
        if error is None or _may_have_arrived(error):
            why = "none came" if error is None else type(error).__name__
            return SendUnknown(
                f"no acknowledgement from {names} within {waited:g} s ({why}): the events may or "
                "may not have arrived. Send the same bytes again; readers count them once."
            )
    error = next(iter(failed.values()))
    return SendRefused(
        f"the broker refused events for {names}: {type(error).__name__}. "
        "Check this member's rights on the topic and the topic's max.message.bytes."
    )


def _may_have_arrived(error: BaseException) -> bool:
    # aiokafka retries these until the time is up; an earlier try may have been appended.
    return (
        not isinstance(error, KafkaError)
        or error.retriable
        or isinstance(error, KafkaTimeoutError | ProducerClosed)
    )


def _name(target: Partition) -> str:
    return f"{target.topic}[{target.number}]"
