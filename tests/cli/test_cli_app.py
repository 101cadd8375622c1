"""The command line as a whole: fast, light, and an exit code for each kind of end."""

from __future__ import annotations

import asyncio
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import fi_stream.errors
from fi_stream.cli import app as app_module
from fi_stream.cli.app import VERBS, Verb, app
from fi_stream.errors import BrokerError, FiStreamError, TopicError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

HEAVY = ("torch", "opendp", "onnxruntime", "sklearn", "aiokafka", "confluent_kafka", "numpy")


def used() -> float:
    """Seconds of processor that our children took: others' work does not count."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def test_help_answers_within_half_a_second() -> None:
    command = [str(Path(sys.executable).with_name("fi-stream")), "--help"]
    took = []
    for _ in range(5):
        start = used()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        took.append(used() - start)
        assert all(verb in done.stdout for verb in VERBS)
    assert min(took) < 0.5, took


def test_the_command_line_imports_nothing_heavy() -> None:
    script = (
        "import sys, fi_stream.cli.app as a; a.app(None)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, cli: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = cli(verb, "--help")
    assert (code, err) == (0, "")
    assert f"fi-stream {verb}" in out


def test_each_error_ends_with_its_code_and_no_traceback(
    cli: Callable[..., tuple[int, str, str]], verb_that: Callable[[Callable[[], None]], str]
) -> None:
    kinds = [e for e in vars(fi_stream.errors).values() if isinstance(e, type)]
    for kind in (k for k in kinds if issubclass(k, FiStreamError)):

        def fail(kind: type[FiStreamError] = kind) -> None:
            raise kind("what, where, what to do")

        code, out, err = cli(verb_that(fail))
        assert (code, out, err) == (kind.exit_code, "", "error: what, where, what to do\n")


def test_the_help_names_every_exit_code(cli: Callable[..., tuple[int, str, str]]) -> None:
    said = set(re.findall(r"\b\d+\b", cli("--help")[1].partition("Exit codes")[2]))
    kinds = [e for e in vars(fi_stream.errors).values() if isinstance(e, type)]
    used = {str(k.exit_code) for k in kinds if issubclass(k, FiStreamError)}
    assert used | {"0", "2", "130"} == said
    assert app_module.__doc__ is not None
    assert all(re.search(rf"^    {code} ", app_module.__doc__, re.MULTILINE) for code in said)


def test_errors_of_a_task_group_are_told_one_by_one(
    cli: Callable[..., tuple[int, str, str]], verb_that: Callable[[Callable[[], None]], str]
) -> None:
    async def role() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_fail(BrokerError("no broker")))
            tasks.create_task(_fail(TopicError("no topic")))

    code, _, err = cli(verb_that(lambda: asyncio.run(role())))
    assert code == BrokerError.exit_code
    assert err == "error: no broker\nerror: no topic\n"


async def _fail(error: Exception) -> None:
    raise error


def test_ctrl_c_ends_with_130(
    cli: Callable[..., tuple[int, str, str]], verb_that: Callable[[Callable[[], None]], str]
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert cli(verb_that(interrupted)) == (130, "", "")


def test_wrong_usage_ends_with_2(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = cli("chekc")
    assert code == 2
    assert "Did you mean 'check'" in err
    assert cli("check")[0] == 2
    assert cli("keygen", "p1", "--nonsense")[0] == 2


def test_a_fault_of_ours_keeps_its_traceback_without_local_values(
    verb_that: Callable[[Callable[[], None]], str],
) -> None:
    def faulty() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        app(verb_that(faulty))([verb_that(faulty)])
    assert app(None).pretty_exceptions_enable is False


def test_only_the_verb_that_was_asked_for_is_imported() -> None:
    script = (
        "import sys, fi_stream.cli.app as a; a.app('check')\n"
        "print(sorted(m for m in sys.modules if m.startswith('fi_stream.cli.')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "['fi_stream.cli.app', 'fi_stream.cli.check']"


def test_the_version_is_that_of_the_package(cli: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = cli("--version")
    assert code == 0
    assert re.fullmatch(r"fi-stream \d+\.\d+\.\d+\n", out)


@pytest.fixture
def verb_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], str]:
    """A verb, real but for the table, that does what it is given."""

    def make(does: Callable[[], None]) -> str:
        def trial() -> None:
            does()

        module: ModuleType = type(sys)("fi_stream.cli.trial")
        module.trial = trial  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(VERBS, "trial", Verb("trial:trial", "A verb of this test"))
        return "trial"

    return make
