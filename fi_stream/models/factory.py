"""A model made by the member's own Python, named "module:callable"."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fi_stream.errors import ModelError
from fi_stream.models.files import short_hash
from fi_stream.models.torch_model import TorchModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from numpy.typing import NDArray

    from fi_stream.federation.task import Task
    from fi_stream.models.port import Features, Forms, Inputs, Model, Source


@dataclass(frozen=True, slots=True)
class _Called:
    """A plain callable, or another object's `predict` and what else it can do."""

    call: Callable[[Inputs], NDArray[Any]]
    version: str
    features: Features | None = None
    forms: Forms | None = None

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        return self.call(inputs)


@dataclass(frozen=True, slots=True)
class _Several:
    """Models that are asked one by one, so that one which fails fails alone: it says NaN.

    What it says is [models, rows, classes].
    """

    models: tuple[Model, ...]
    classes: int
    version: str

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        shape = (len(next(iter(inputs.values()))), self.classes)
        return np.stack([_said(model, inputs, shape) for model in self.models])


def _said(model: Model, inputs: Inputs, shape: tuple[int, int]) -> NDArray[np.float64]:
    try:
        said = np.asarray(model.predict(inputs))
    except Exception:  # noqa: BLE001  (a member's own model may raise anything)
        return np.full(shape, np.nan)
    fits = said.shape == shape and said.dtype.kind in "fiub"
    return said.astype(np.float64) if fits else np.full(shape, np.nan)


def load_factory(reference: str, source: Source, task: Task, directory: Path) -> Model:
    """Import the module and call the callable, without arguments; it returns the model.

    It may return an object with `predict(inputs)`, and `features` and `forms` if it likes (see
    `port.Model`), a `torch.nn.Module` (called with one tensor an input, in the task's order), or
    any callable of the inputs; or a list of such models, which answer together with
    [models, rows, classes] (`sharded.py`). The directory comes first on
    `sys.path`, while the module is imported and the callable runs.

    Raises:
        ModelError: the module or the callable is not there, fails, or returns something else.
    """
    module_name, _, name = reference.partition(":")
    with _importable(directory):
        module = _import(module_name, reference, directory)
        make = getattr(module, name, None)
        if not callable(make):
            raise ModelError(
                f"factory {reference!r} under [model]: {_place(module)} has no callable {name!r}. "
                f"Define `def {name}(): ...` there, returning the model."
            )
        made = _guarded(make, f"factory {reference!r} in {_place(module)}")
    version = source.version or _version(module, reference)
    return _behind_port(made, source, task, version, f"factory {reference!r} in {_place(module)}")


def _behind_port(made: Any, source: Source, task: Task, version: str, what: str) -> Model:
    if isinstance(made, list):
        each = tuple(_behind_port(one, source, task, version, what) for one in made)
        return _Several(each, len(task.classes), version)
    torch = sys.modules.get("torch")  # only the member's module decides whether torch is loaded
    predict = getattr(made, "predict", None)
    more: dict[str, Any] = {}
    if callable(predict):
        call = predict
        more = {name: getattr(made, name, None) for name in ("features", "forms")}
    elif torch is not None and isinstance(made, torch.nn.Module):
        return _torch_model(torch, made, source, task, version)
    elif callable(made):
        call = made
    else:
        raise ModelError(
            f"{what} returned {type(made).__name__}: return an object with `predict(inputs)`, a "
            "torch.nn.Module, a callable of the inputs, or a list of these."
        )
    if source.device is not None:
        raise ModelError(
            f"{what} returned no torch.nn.Module, so `device` under [model] has no meaning: "
            "remove it, and place the model in the factory."
        )
    return _Called(call, version, **{k: v for k, v in more.items() if callable(v)})


def _torch_model(
    torch: ModuleType, module: Any, source: Source, task: Task, version: str
) -> TorchModel:
    module = module.eval()
    if source.device is not None:
        module = module.to(source.device)
    first = next(module.parameters(), None)
    device = first.device if first is not None else source.device or "cpu"
    return TorchModel(torch, module, [i.name for i in task.inputs], device, version)


def _import(module_name: str, reference: str, directory: Path) -> ModuleType:
    beside = directory / Path(*module_name.split("."))
    files = [beside.with_suffix(".py"), beside / "__init__.py"]
    wanted = next((file for file in files if file.is_file()), None)
    loaded = sys.modules.get(module_name)
    if loaded is not None and wanted is not None and not _is_from(loaded, wanted):
        raise ModelError(
            f"factory {reference!r} under [model]: a module {module_name!r} is loaded already, "
            f"from {_place(loaded)}, and hides {wanted}. Rename the file."
        )

    def find() -> ModuleType:
        importlib.invalidate_caches()  # the file may be younger than the directory's listing
        return importlib.import_module(module_name)

    if wanted is None and loaded is None:
        hint = f"no {files[0]}, and not installed here"
    else:
        hint = str(wanted or _place(loaded))
    module: ModuleType = _guarded(find, f"factory {reference!r} under [model] ({hint})")
    return module


def _guarded(call: Callable[[], Any], what: str) -> Any:
    try:
        return call()
    except Exception as error:  # a member's own code may raise anything
        raise ModelError(
            f"{what} failed with {type(error).__name__}: {error}. Correct it, or the line "
            "`factory`."
        ) from error


@contextmanager
def _importable(directory: Path) -> Iterator[None]:
    entry = str(directory.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _is_from(module: ModuleType, file: Path) -> bool:
    place = getattr(module, "__file__", None)
    return place is not None and Path(place).resolve() == file.resolve()


def _place(module: ModuleType | None) -> str:
    return str(getattr(module, "__file__", None) or module)


def _version(module: ModuleType, reference: str) -> str:
    place = getattr(module, "__file__", None)
    return short_hash(Path(place).read_bytes() if place else reference.encode())
