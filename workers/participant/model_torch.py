"""A sample model of torch, to be replaced by a model of your own."""

from __future__ import annotations

import torch

# Sepal length and width, petal length and width of a typical flower, in centimetres.
TYPICAL = torch.tensor(
    [
        [5.0, 3.4, 1.5, 0.2],  # setosa
        [5.9, 2.8, 4.3, 1.3],  # versicolor
        [6.6, 3.0, 5.6, 2.0],  # virginica
    ]
)


def load() -> torch.nn.Module:
    """One linear layer: of two typical flowers, the nearer one to a flower has the larger logit."""
    layer = torch.nn.Linear(4, 3)
    with torch.no_grad():
        layer.weight.copy_(2 * TYPICAL)
        layer.bias.copy_(-TYPICAL.square().sum(dim=1))
    return layer
