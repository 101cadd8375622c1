"""A torch module behind the port: arrays in, arrays out, no gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType

    from numpy.typing import NDArray

    from fi_stream.models.port import Inputs


class TorchModel:
    """Calls `forward` with one tensor an input, in the task's order.

    Args:
        torch: the imported library.
        forward: returns one tensor, [rows, classes].
        inputs: the task's input names.
        device: where the tensors go.
        version: of the model.
    """

    def __init__(
        self,
        torch: ModuleType,
        forward: Callable[..., Any],
        inputs: Sequence[str],
        device: Any,
        version: str,
    ) -> None:
        self.version = version
        self._torch = torch
        self._forward = forward
        self._inputs = inputs
        self._device = device

    def predict(self, inputs: Inputs) -> NDArray[Any]:
        """Answer all rows in one forward pass."""
        torch = self._torch
        with torch.inference_mode():
            tensors = [torch.from_numpy(_writable(inputs[name])) for name in self._inputs]
            output = self._forward(*(tensor.to(self._device) for tensor in tensors))
            if not isinstance(output, torch.Tensor):
                raise TypeError(f"forward returned {type(output).__name__}, not one tensor")
            if output.dtype is torch.bfloat16:  # numpy has no such type
                output = output.float()
            array: NDArray[Any] = output.cpu().numpy()
            return array


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    # torch warns about read-only memory even where nothing writes to it.
    return array if array.flags.writeable else array.copy()
