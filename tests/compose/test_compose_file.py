"""The files of `compose/` and its Dockerfile name what is there, and give no more than needed."""

from __future__ import annotations

import posixpath
import re
import shlex
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from compose.conftest import Service, Stack

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DOCKERFILE = (ROOT / "compose" / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
PINNED = re.compile(r"^[a-z/-]+:\d+\.\d+\.\d+[a-z-]*$")
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def member_file(service: Service) -> dict[str, Any]:
    """The member.toml that a service's command names."""
    name = next(Path(word).name for word in service.command if "member" in word)
    folder = next(mount.path for mount in service.mounts if mount.target == "/member")
    assert folder is not None
    return tomllib.loads((folder / name).read_text("utf-8"))


def instructions(word: str) -> list[list[str]]:
    lines = [line.strip() for line in DOCKERFILE.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{word} ")]


def test_every_mounted_path_is_in_the_repository_and_every_volume_is_declared(
    stack: Stack,
) -> None:
    mounts = [mount for service in stack.services.values() for mount in service.mounts]
    paths = [mount.path for mount in mounts if mount.path is not None]
    assert paths
    assert all(path.is_dir() and path.is_relative_to(ROOT) for path in paths)
    named = {mount.source for mount in mounts if mount.path is None}
    assert named == set(stack.content["volumes"])


def test_services_wait_for_services_that_can_fulfil_what_is_waited_for(stack: Stack) -> None:
    for service in stack.services.values():
        for name, condition in service.needs.items():
            other = stack.services[name].settings
            assert condition in CONDITIONS
            assert (condition == "service_healthy") <= ("healthcheck" in other)
            assert (condition == "service_completed_successfully") <= (other["restart"] == "no")
            # A service without a profile would never start after one that needs its profile named.
            assert set(other.get("profiles", [])) <= set(service.settings.get("profiles", []))


def test_what_goes_on_says_when_it_is_ready_and_whoever_needs_it_waits_for_that(
    stack: Stack,
) -> None:
    everyone = stack.services.values()
    goes_on = [s for s in everyone if s.settings["restart"] == "unless-stopped"]
    assert len(goes_on) == 5 + stack.sums
    for service in goes_on:
        waiting = [s.needs[service.name] for s in everyone if service.name in s.needs]
        assert waiting
        assert set(waiting) == {"service_healthy"}
    for service in stack.ours:
        if service in goes_on:
            check = service.settings["healthcheck"]
            assert check["test"][:3] == ["CMD", "python", "-c"]
            health = member_file(service)["health"]
            # Not 127.0.0.1: whoever collects metrics is another container.
            assert health["host"] == "0.0.0.0"
            assert f'"127.0.0.1", {health["port"]},' in check["test"][3]
            assert '"GET", "/readyz"' in check["test"][3]


def test_the_whole_federation_is_there(stack: Stack) -> None:
    verbs = [service.command[1] for service in stack.ours]
    assert verbs[:2] in (["init", "topics"], ["topics", "init"])
    assert verbs.count("aggregator") == 1
    assert verbs.count("participant") == 3
    assert verbs.count("helper") == stack.sums
    assert stack.services["client"].settings["profiles"] == ["client"]
    for service in stack.ours:
        if service.command[1] in {"aggregator", "participant", "helper"}:
            assert {"init", "topics"} <= service.needs.keys()
            assert service.settings["restart"] == "unless-stopped"


def test_every_image_is_pinned_and_ours_are_two_of_this_version(stack: Stack) -> None:
    images = {service.settings["image"] for service in stack.services.values()}
    bases = {words[0] for words in instructions("FROM") if ":" in words[0]}
    assert all(PINNED.match(image) for image in images | bases)
    ours = {service.settings["image"] for service in stack.ours}
    version = PROJECT["project"]["version"]
    assert ours == {f"fi-stream-{name}:{version}" for name in ("slim", "torch")}


def test_every_build_is_a_stage_of_the_dockerfile_and_never_pulled(stack: Stack) -> None:
    stages = {words[2] for words in instructions("FROM") if words[1:2] == ["AS"]}
    for service in stack.ours:
        build = service.settings["build"]
        folder = (ROOT / "compose" / build["context"]).resolve()
        assert (folder / build["dockerfile"]).is_file()
        assert service.settings["image"].startswith(f"fi-stream-{build['target']}:")
        assert build["target"] in stages
        assert service.settings["pull_policy"] == "build"


def test_the_dockerfile_copies_what_is_there() -> None:
    stages = {words[2] for words in instructions("FROM") if words[1:2] == ["AS"]}
    ignored = (ROOT / "compose" / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for *sources, _ in instructions("COPY"):
        if sources[0].startswith("--from="):
            assert sources[0].removeprefix("--from=") in stages
            continue
        for source in sources:
            assert (ROOT / source).exists(), f"COPY {source}"
            assert f"!{source}" in ignored


def test_the_dockerfile_installs_extras_that_exist() -> None:
    named = re.findall(r"'\.\[([a-z,]+)\]'", DOCKERFILE)
    extras = [extra for group in named for extra in group.split(",")]
    assert extras
    assert set(extras) <= set(PROJECT["project"]["optional-dependencies"])


def test_an_installed_package_has_the_files_that_it_reads() -> None:
    data = PROJECT["tool"]["setuptools"]["package-data"]["fi_stream"]
    package = ROOT / "fi_stream"
    read = [
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc", ".pyi"}
    ]
    assert read
    assert [path for path in read if not any(fnmatch(str(path), known) for known in data)] == []


def test_every_mount_point_is_made_for_the_user_of_the_image(stack: Stack) -> None:
    # Docker gives a new volume the owner of the directory it is mounted on, and root without one.
    (user,) = instructions("USER")
    made = re.search(r"install -d -o fi -g fi ([^\n]+)", DOCKERFILE)
    assert made is not None
    for service in stack.ours:
        assert service.settings["user"] == user[0]
        for mount in service.mounts:
            assert mount.path is not None or mount.target in made[1].split()


def test_no_service_has_more_rights_than_it_needs(stack: Stack) -> None:
    for service in stack.services.values():
        settings: dict[str, Any] = service.settings
        assert settings["cap_drop"] == ["ALL"]
        assert settings["security_opt"] == ["no-new-privileges:true"]
        assert {"cpus", "mem_limit", "stop_grace_period"} <= settings.keys()
        assert settings.keys().isdisjoint({"privileged", "ports", "pid", "ipc", "cap_add"})
        assert settings.get("network_mode") in {None, "none"}
    for service in stack.ours:
        assert service.settings["read_only"] is True
        assert not any(mount.writable for mount in service.mounts if mount.path is not None)


def test_a_helper_runs_as_an_aggregator_does_and_is_asked_for_sums(sums: Stack) -> None:
    helper, aggregator = (sums.services[name].settings for name in ("helper", "aggregator"))
    differs = {key for key in helper | aggregator if helper.get(key) != aggregator.get(key)}
    assert differs == {"command", "volumes"}
    assert "--secagg" in sums.services["init"].command
    for client in ("client", "load"):
        assert sums.services[client].command[-2:] == ["--protection", "secagg"]
        assert "helper" in sums.services[client].needs


def test_what_a_helper_must_not_forget_is_in_a_volume_of_its_own(sums: Stack) -> None:
    store = member_file(sums.services["helper"])["helper"]["store"]
    folder = posixpath.normpath(posixpath.join("/member", store, ".."))
    [volume] = [m for m in sums.services["helper"].mounts if m.target == folder]
    assert volume.path is None
    assert volume.writable
    users = [s.name for s in sums.services.values() for m in s.mounts if m.source == volume.source]
    assert users == ["helper"]


@pytest.mark.parametrize("member", ["p1", "p2", "p3", "aggregator", "client", "helper"])
def test_a_member_sees_no_other_members_keys(sums: Stack, member: str) -> None:
    own = [s for s in sums.ours if any(mount.source == member for mount in s.mounts)]
    members = {mount.source for mount in sums.services["init"].mounts} - {"federation"}
    assert len(own) > 1
    for service in own:
        if service.name != "init":
            assert {mount.source for mount in service.mounts} & members == {member}
            settings = member_file(service)["member"]
            assert settings["id"] == member
            assert settings["keys"] == f"../federation/{member}/keys"
