"""The stacks of `compose/` as values: compose.yml, and with secagg.yml beside it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mount:
    """One line of a service's `volumes`; `source` is a volume's name, or a path."""

    source: str
    target: str
    writable: bool

    @property
    def path(self) -> Path | None:
        """What is mounted, unless it is a named volume."""
        if not self.source.startswith("."):
            return None
        return (ROOT / "compose" / self.source).resolve()


@dataclass(frozen=True)
class Service:
    """One service, as it is after the file's anchors were merged."""

    name: str
    settings: dict[str, Any]

    @property
    def ours(self) -> bool:
        return self.settings.get("command", [""])[0] == "fi-stream"

    @property
    def command(self) -> list[str]:
        return self.settings["command"]

    @property
    def needs(self) -> dict[str, str]:
        """The services that come before it, and what must be true of each."""
        return {n: c["condition"] for n, c in self.settings.get("depends_on", {}).items()}

    @property
    def mounts(self) -> list[Mount]:
        """Outer mount points first."""
        parts = [text.split(":") for text in self.settings.get("volumes", [])]
        mounts = [Mount(source, target, mode != ["ro"]) for source, target, *mode in parts]
        return sorted(mounts, key=lambda mount: mount.target.count("/"))


@dataclass(frozen=True)
class Stack:
    """All that is started: a file, or two of which the second adds to the first."""

    content: dict[str, Any]

    @property
    def sums(self) -> bool:
        """Whether it has a helper."""
        return "helper" in self.services

    @property
    def services(self) -> dict[str, Service]:
        return {name: Service(name, of) for name, of in self.content["services"].items()}

    @property
    def ours(self) -> list[Service]:
        """The services that run `fi-stream`, each after those that it needs."""
        ordered: dict[str, Service] = {}

        def add(service: Service) -> None:
            for name in service.needs:
                add(self.services[name])
            ordered.setdefault(service.name, service)

        for service in self.services.values():
            add(service)
        return [service for service in ordered.values() if service.ours]

    def waited_for(self, service: Service) -> bool:
        """Whether others start only once this one has ended well."""
        return any(
            other.needs.get(service.name) == "service_completed_successfully"
            for other in self.services.values()
        )


def merged(first: Any, second: Any) -> Any:
    """What Docker Compose makes of two files: maps and volumes are joined, the rest is replaced."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return second
    whole = dict(first)
    for key, value in second.items():
        if key == "volumes" and isinstance(value, list):
            whole[key] = [*first.get(key, []), *value]
        else:
            whole[key] = merged(first[key], value) if key in first else value
    return whole


def read(*names: str) -> Stack:
    texts = [(ROOT / "compose" / name).read_text("utf-8") for name in names]
    return Stack(reduce(merged, map(yaml.safe_load, texts)))


@pytest.fixture(scope="session", params=["alone", "with secagg.yml"])
def stack(request: pytest.FixtureRequest) -> Stack:
    return read("compose.yml", *(["secagg.yml"] if "with" in request.param else []))


@pytest.fixture(scope="session")
def sums() -> Stack:
    """The one that has a helper."""
    return read("compose.yml", "secagg.yml")
