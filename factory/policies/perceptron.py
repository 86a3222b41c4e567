"""A multilayer perceptron that runs as a single fused call on a CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from factory import kernels
from factory.policies.fused import OneDnn, apply_kernels

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": functools.partial(nn.ELU, inplace=True),
    "tanh": nn.Tanh,
    "relu": functools.partial(nn.ReLU, inplace=True),
}
_PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


class Perceptron(nn.Sequential):
    """Linear layers with an activation between them.

    On a CPU, all layers are one call: compiled kernels in float32, oneDNN in bfloat16. Elsewhere, and in an
    export, the layers run one by one. Both ways give the same result up to rounding. `precision` is that of
    products and activations; weights and sums stay float32.
    """

    precision: torch.dtype

    def __init__(
        self, inputs: int, hidden: list[int], outputs: int, *, activation: str, precision: str, gain: float
    ) -> None:
        """Draw orthogonal weights.

        Args:
            inputs: features.
            hidden: units of the hidden layers.
            outputs: units of the last layer, which has no activation.
            activation: one of `ACTIVATIONS` in `mlp_config.py`.
            precision: one of `PRECISIONS` in `config.py`.
            gain: scale of the last layer's weights.
        """
        # sqrt(2) keeps the variance of activations about constant from layer to layer (He et al. 2015).
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [_linear(inputs, size, math.sqrt(2.0)), _ACTIVATIONS[activation]()]
            inputs = size
        super().__init__(*layers, _linear(inputs, outputs, gain))
        self.activation = activation
        self.precision = _PRECISIONS[precision]

    @property
    def sizes(self) -> list[int]:
        """Features, units of every hidden layer, outputs."""
        return _sizes(self._linear_layers())

    @property
    def layers(self) -> kernels.Network:
        """The layers as kernels take them."""
        return kernels.Network(self.sizes)

    @property
    def last(self) -> nn.Linear:
        """The last layer."""
        return self._linear_layers()[-1]

    @property
    def num_multiply_adds(self) -> int:
        """Multiply-adds for one observation."""
        return sum(layer.weight.numel() for layer in self._linear_layers())

    def forward(self, features: Tensor) -> Tensor:
        """Return the last layer's output. Shape: (..., inputs) -> (..., outputs)."""
        # torch.export must see plain layers, since the file has to run without this package.
        if features.device.type != "cpu" or features.dtype != torch.float32 or torch.compiler.is_compiling():
            return self._one_by_one(features)
        layers = self._linear_layers()
        parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        if self.precision is torch.float32 and kernels.are_enabled():
            return apply_kernels(features, self.activation, _sizes(layers), parameters)
        if self.precision is not torch.float32 and torch.backends.mkldnn.is_available():
            return OneDnn.apply(features, self.activation, *parameters)
        return self._one_by_one(features)

    def _linear_layers(self) -> list[nn.Linear]:
        return [layer for layer in self if isinstance(layer, nn.Linear)]

    def _one_by_one(self, features: Tensor) -> Tensor:
        if self.precision is torch.float32:
            return super().forward(features)
        # Autocast rounds the factors of products alone; their sums are accumulated in float32.
        with torch.autocast(features.device.type, self.precision):
            return super().forward(features).float()


def _sizes(layers: list[nn.Linear]) -> list[int]:
    return [layer.in_features for layer in layers] + [layers[-1].out_features]


def _linear(inputs: int, outputs: int, gain: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer
