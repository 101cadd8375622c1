"""The topic catalogue, read from `topics/catalogue.toml`, the one place with names and settings."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Annotated

from annotated_types import Ge
from pydantic import model_validator

from fi_stream.federation.settings import Settings


class Topic(Settings):
    """One topic: its name, partitions, and the settings it must have on the broker."""

    name: str
    holds: str
    partitions: Annotated[int, Ge(1)]
    shared: bool = False
    settings: dict[str, str]


class Catalogue(Settings):
    """All topics of a federation, by role."""

    queries: Topic
    responses: Topic
    proposals: Topic
    results: Topic
    keys: Topic
    dead: Topic
    feedback: Topic

    @property
    def topics(self) -> tuple[Topic, ...]:
        """Every topic, in the order of the catalogue."""
        return tuple(getattr(self, role) for role in type(self).model_fields)

    @property
    def sharing(self) -> tuple[Topic, ...]:
        """The topics that must have one partition count, so that a query stays in its partition."""
        return tuple(topic for topic in self.topics if topic.shared)

    @model_validator(mode="after")
    def _one_count(self) -> Catalogue:
        counts = {topic.name: topic.partitions for topic in self.sharing}
        if len(set(counts.values())) > 1:
            message = f"these topics must have the same number of partitions: {counts}"
            raise ValueError(message)
        return self


@cache
def catalogue() -> Catalogue:
    """The catalogue of this version."""
    text = files("fi_stream.transport").joinpath("catalogue.toml").read_text("utf-8")
    document = tomllib.loads(text)
    common = document.pop("settings")
    shared = document.pop("partitions")
    topics = {}
    for role, given in document.items():
        topic = dict(given)
        topic.setdefault("shared", "partitions" not in topic)
        topic.setdefault("partitions", shared)
        topic["settings"] = {**common, **topic.get("settings", {})}
        topics[role] = topic
    return Catalogue.model_validate(topics)
