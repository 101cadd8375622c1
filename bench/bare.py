"""The bare pipeline: a scatter-gather on aiokafka in the clear, as fast as we can write it.

Whole polls become one array, one forward pass and one batch; no message has a task or a future.
It has no deadline, no check for copies, no abstain: a lost message stays lost.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench import job
from bench.setting import FETCHING, LARGEST_BATCH, MOST_RECORDS
from fi_stream.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from numpy.typing import NDArray

    from bench.load import Answers
    from bench.setting import Setting

_IDLE_MS = 1000
_COMMIT_EVERY = 1.0
_ANSWER_BYTES = 8 * job.CLASSES
_PARTITION = 0


class Batches:
    """A producer that takes many records of one partition at once."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._last: asyncio.Future[object] | None = None

    async def send(self, partition: int, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Hand over all; returns as soon as the producer took them."""
        batch = self._producer.create_batch()
        for key, value in records:
            if batch.append(key=key, value=value, timestamp=None) is None:
                await self._submit(batch, partition)
                batch = self._producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        await self._submit(batch, partition)

    async def settled(self) -> None:
        """Wait until the broker acknowledged what was handed over last."""
        if self._last is not None:
            await self._last

    async def _submit(self, batch: object, partition: int) -> None:
        self._last = await self._producer.send_batch(batch, self._topic, partition=partition)


async def participant(setting: Setting, number: int, stop: asyncio.Event) -> None:
    """Answer every query with a model's probabilities."""
    model, me = job.model(number), bytes([number])
    clock = SystemClock()
    async with (
        _consumer(setting, setting.queries, f"{setting.name}.p{number}") as consumer,
        _producer(setting) as producer,
    ):
        responses = Batches(producer, setting.responses)
        next_commit = clock.monotonic() + _COMMIT_EVERY
        while not stop.is_set():
            fetched = await consumer.getmany(timeout_ms=_IDLE_MS, max_records=MOST_RECORDS)
            for source, records in fetched.items():
                joined = b"".join([record.value for record in records])
                rows = np.frombuffer(joined, "<f4").reshape(len(records), job.NUMBERS)
                said = _cut(model.probabilities(rows))
                await responses.send(
                    source.partition,
                    [(r.key, me + one) for r, one in zip(records, said, strict=True)],
                )
            if clock.monotonic() >= next_commit:
                next_commit = clock.monotonic() + _COMMIT_EVERY
                await responses.settled()
                await consumer.commit()


async def aggregator(setting: Setting, stop: asyncio.Event) -> None:
    """Add up the three answers to each query; the largest sum is its label."""
    waiting: dict[bytes, dict[int, bytes]] = {}
    async with (
        _consumer(setting, setting.responses, f"{setting.name}.aggregator") as consumer,
        _producer(setting) as producer,
    ):
        results = Batches(producer, setting.results)
        while not stop.is_set():
            fetched = await consumer.getmany(timeout_ms=_IDLE_MS, max_records=MOST_RECORDS)
            for source, records in fetched.items():
                complete: list[bytes] = []
                answers: list[bytes] = []
                for record in records:
                    given = waiting.setdefault(record.key, {})
                    given[record.value[0]] = record.value[1:]
                    if len(given) == job.PARTICIPANTS:
                        del waiting[record.key]
                        complete.append(record.key)
                        answers += [given[number] for number in job.participants()]
                if complete:
                    decided = _cut_with_labels(_sums(answers))
                    await results.send(source.partition, zip(complete, decided, strict=True))


@asynccontextmanager
async def client(setting: Setting, answers: Answers) -> AsyncIterator[BareAsker]:
    """Ask on one partition, from which responses and results keep their place."""
    source = TopicPartition(setting.results, _PARTITION)
    consumer = AIOKafkaConsumer(bootstrap_servers=setting.bootstrap, **FETCHING)
    consumer.assign([source])
    await consumer.start()
    try:
        await consumer.position(source)
        async with _producer(setting) as producer, asyncio.TaskGroup() as tasks:
            asker = BareAsker(Batches(producer, setting.queries))
            running = [
                tasks.create_task(asker.send(), name="bare.send"),
                tasks.create_task(_read(consumer, answers), name="bare.read"),
            ]
            try:
                yield asker
            finally:
                for task in running:
                    task.cancel()
    finally:
        await consumer.stop()


class BareAsker:
    """Gathers what is posted while the last batch is on its way."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self._posted: list[tuple[bytes, bytes]] = []
        self._wake = asyncio.Event()

    def post(self, row: NDArray[np.float32], token: int) -> None:
        """Ask one query."""
        self._posted.append((job.query_key(token), row.tobytes()))
        self._wake.set()

    async def send(self) -> None:
        """Send what was posted, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            posted, self._posted = self._posted, []
            await self._batches.send(_PARTITION, posted)


async def _read(consumer: AIOKafkaConsumer, answers: Answers) -> None:
    while True:
        fetched = await consumer.getmany(timeout_ms=_IDLE_MS, max_records=MOST_RECORDS)
        for records in fetched.values():
            for record in records:
                label = int.from_bytes(record.value[:8], "little")
                answers.take(job.token_of(record.key), label)


@asynccontextmanager
async def _consumer(setting: Setting, topic: str, group: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=setting.bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="latest",
        **FETCHING,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def _producer(setting: Setting) -> AsyncIterator[AIOKafkaProducer]:
    producer = AIOKafkaProducer(
        bootstrap_servers=setting.bootstrap,
        acks="all",
        linger_ms=0,
        max_batch_size=LARGEST_BATCH,
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


def _sums(answers: list[bytes]) -> NDArray[np.float64]:
    """[queries, classes] of answers in which each query's three follow one another."""
    stack = np.frombuffer(b"".join(answers), "<f8").reshape(-1, job.PARTICIPANTS, job.CLASSES)
    sums: NDArray[np.float64] = stack.sum(axis=1)
    return sums


def _cut(rows: NDArray[np.float64]) -> list[bytes]:
    """The bytes of each row."""
    data = rows.tobytes()
    return [data[at : at + _ANSWER_BYTES] for at in range(0, len(data), _ANSWER_BYTES)]


def _cut_with_labels(sums: NDArray[np.float64]) -> list[bytes]:
    """The value of each result: its label, 8 bytes, and its scores."""
    labels = sums.argmax(axis=1).astype("<i8").tobytes()
    return [labels[8 * at : 8 * at + 8] + one for at, one in enumerate(_cut(sums))]
