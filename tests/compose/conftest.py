"""The stack of `compose/compose.yml` as values."""

from __future__ import annotations

from dataclasses import dataclass
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
    """The whole file."""

    content: dict[str, Any]

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


@pytest.fixture(scope="session")
def stack() -> Stack:
    text = (ROOT / "compose" / "compose.yml").read_text("utf-8")
    return Stack(yaml.safe_load(text))
