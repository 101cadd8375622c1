"""The same job in FastStream, in the clear, written the way its documentation shows.

One handler a role; what a handler returns is published and awaited; the framework passes keys,
correlation ids and acknowledgements. The client alone does not await each query's acknowledgement,
so that it is not what is measured.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import numpy as np
from faststream.kafka import KafkaBroker, KafkaMessage, KafkaResponse

from bench import job
from bench.setting import FETCHING, LARGEST_BATCH

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from numpy.typing import NDArray

    from bench.load import Answers
    from bench.setting import Setting


async def participant(setting: Setting, number: int, stop: asyncio.Event) -> None:
    """Answer every query with a model's probabilities."""
    broker = _broker(setting)
    model, me = job.model(number), bytes([number])

    @broker.subscriber(setting.queries, group_id=f"{setting.name}.p{number}", **FETCHING)  # type: ignore[untyped-decorator] # not checked here
    @broker.publisher(setting.responses)  # type: ignore[untyped-decorator] # the same
    async def answer(body: bytes, message: KafkaMessage) -> KafkaResponse:
        row = np.frombuffer(body, "<f4").reshape(1, job.NUMBERS)
        said = model.probabilities(row).tobytes()
        return KafkaResponse(me + said, key=message.raw_message.key)

    await _serve(broker, stop)


async def aggregator(setting: Setting, stop: asyncio.Event) -> None:
    """Add up the three answers to each query; the largest sum is its label."""
    broker = _broker(setting)
    publisher = broker.publisher(setting.results)
    waiting: dict[bytes, dict[int, bytes]] = {}

    @broker.subscriber(setting.responses, group_id=f"{setting.name}.aggregator", **FETCHING)  # type: ignore[untyped-decorator] # the same
    async def join(body: bytes, message: KafkaMessage) -> None:
        key = message.raw_message.key
        given = waiting.setdefault(key, {})
        given[body[0]] = body[1:]
        if len(given) == job.PARTICIPANTS:
            del waiting[key]
            answers = b"".join([given[number] for number in job.participants()])
            sums = np.frombuffer(answers, "<f8").reshape(-1, job.CLASSES).sum(axis=0)
            label = int(sums.argmax()).to_bytes(8, "little")
            await publisher.publish(label + sums.tobytes(), key=key)

    await _serve(broker, stop)


@asynccontextmanager
async def client(setting: Setting, answers: Answers) -> AsyncIterator[FrameworkAsker]:
    """Ask, and hand every result on."""
    broker = _broker(setting)

    @broker.subscriber(setting.results, group_id=f"{setting.name}.client", **FETCHING)  # type: ignore[untyped-decorator] # the same
    async def result(body: bytes, message: KafkaMessage) -> None:
        answers.take(job.token_of(message.raw_message.key), int.from_bytes(body[:8], "little"))

    asker = FrameworkAsker(broker, setting.queries)
    await broker.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(asker.send(), name="framework.send")
            try:
                yield asker
            finally:
                sending.cancel()
    finally:
        await broker.stop()


class FrameworkAsker:
    """Publishes what is posted, one after another."""

    def __init__(self, broker: KafkaBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._posted: asyncio.Queue[tuple[bytes, bytes]] = asyncio.Queue()

    def post(self, row: NDArray[np.float32], token: int) -> None:
        """Ask one query."""
        self._posted.put_nowait((job.query_key(token), row.tobytes()))

    async def send(self) -> None:
        """Publish what was posted, for ever."""
        while True:
            key, body = await self._posted.get()
            await self._broker.publish(body, self._topic, key=key, no_confirm=True)


def _broker(setting: Setting) -> KafkaBroker:
    return KafkaBroker(
        setting.bootstrap,
        acks="all",
        linger_ms=0,
        max_batch_size=LARGEST_BATCH,
        log_level=logging.WARNING,
    )


async def _serve(broker: KafkaBroker, stop: asyncio.Event) -> None:
    await broker.start()
    try:
        await stop.wait()
    finally:
        await broker.stop()
