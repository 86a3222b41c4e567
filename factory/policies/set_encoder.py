"""Networks for observations that end with a set, such as the cars around: order and number do not matter.

Every element goes through the same perceptron; the largest value of each output over all elements joins the
other features (Zaheer et al. 2017, arXiv:1703.06114; Qi et al. 2017, arXiv:1612.00593).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from factory import kernels
from factory.policies.mlp_config import SetLayout
from factory.policies.normalizer import RunningNormalizer
from factory.policies.perceptron import Perceptron


class SetPerceptron(nn.Module):
    """A perceptron of the features before the set, and of the largest outputs of the set's own perceptron."""

    def __init__(
        self,
        inputs: int,
        hidden: list[int],
        outputs: int,
        *,
        layout: SetLayout,
        activation: str,
        precision: str,
        gain: float,
    ) -> None:
        """Draw orthogonal weights; see `Perceptron`.

        Args:
            inputs: features, those of the set included.
            hidden: units of the hidden layers behind the maximum.
            outputs: units of the last layer, which has no activation.
            layout: the set.
            activation: one of `ACTIVATIONS` in `mlp_config.py`.
            precision: one of `PRECISIONS` in `config.py`.
            gain: scale of the last layer's weights.
        """
        super().__init__()
        self.layout = layout
        # sqrt(2) is the gain of hidden layers: the trunk goes on from the codes as from hidden units.
        *first, codes = layout.hidden
        self.encoder = Perceptron(
            layout.size, first, codes, activation=activation, precision=precision, gain=2.0**0.5
        )
        self.trunk = Perceptron(
            inputs - layout.num_features + codes,
            hidden,
            outputs,
            activation=activation,
            precision=precision,
            gain=gain,
        )
        self.activation = activation

    @property
    def precision(self) -> torch.dtype:
        """Number format of products and activations."""
        return self.trunk.precision

    @precision.setter
    def precision(self, value: torch.dtype) -> None:
        self.encoder.precision = value
        self.trunk.precision = value

    @property
    def layers(self) -> kernels.Network:
        """The layers as kernels take them."""
        return kernels.Network(self.trunk.sizes, self.encoder.sizes, self.layout.count)

    @property
    def last(self) -> nn.Linear:
        """The last layer."""
        return self.trunk.last

    @property
    def num_multiply_adds(self) -> int:
        """Multiply-adds for one observation."""
        return self.layout.count * self.encoder.num_multiply_adds + self.trunk.num_multiply_adds

    def forward(self, features: Tensor) -> Tensor:
        """Return the last layer's output. Shape: (..., inputs) -> (..., outputs)."""
        if self._computes_at_once(features):
            # Also the order in which kernels expect parameters: encoder, then trunk.
            flat = torch.cat([parameter.detach().flatten() for parameter in self.parameters()])
            rows = features.reshape(-1, features.shape[-1]).contiguous()
            threads = torch.get_num_threads()
            out = kernels.network_outputs(
                rows.numpy(), flat.numpy(), self.layers, self.activation, threads=threads
            )
            return torch.from_numpy(out).view(*features.shape[:-1], -1)
        # Shapes: (..., inputs) -> own features (...), elements (..., count, size), codes (..., count, codes).
        own, elements = features.tensor_split([-self.layout.num_features], -1)
        codes = self.encoder(elements.unflatten(-1, (self.layout.count, self.layout.size)))
        # The gradient goes to the first of equal maxima, as in the kernels; `amax` would share it out.
        largest = codes.max(-2).values
        return self.trunk(torch.cat([own, largest], -1))

    def _computes_at_once(self, features: Tensor) -> bool:
        """Return True where kernels compute all of it: float32 on a CPU, without gradients."""
        is_plain = features.device.type == "cpu" and features.dtype == torch.float32
        is_traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
        return is_plain and not is_traced and self.precision is torch.float32 and kernels.are_enabled()


def make_network(
    inputs: int,
    hidden: list[int],
    outputs: int,
    *,
    layout: SetLayout | None,
    activation: str,
    precision: str,
    gain: float,
) -> Perceptron | SetPerceptron:
    """Return a network for observations that end with a set, or for plain ones without a layout."""
    if layout is None:
        return Perceptron(inputs, hidden, outputs, activation=activation, precision=precision, gain=gain)
    return SetPerceptron(
        inputs, hidden, outputs, layout=layout, activation=activation, precision=precision, gain=gain
    )


class SetNormalizer(RunningNormalizer):
    """Standardises the elements of a set alike, so that the same element looks the same in every place."""

    def __init__(self, size: int, *, layout: SetLayout) -> None:
        super().__init__(size)
        self.layout = layout

    def _moments(self, values: Tensor, live: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, var, rows = super()._moments(values, live)
        # Over all elements: E[m] and E[v + m^2] - E[m]^2, as each has as many samples.
        square = var + mean.square()
        # In place of one mean for each column of each element, all elements get their common one.
        for moment in (mean, square):
            elements = moment[-self.layout.num_features :].view(self.layout.count, self.layout.size)
            elements.copy_(elements.mean(0).expand_as(elements))
        return mean, (square - mean.square()).clamp(min=0.0), rows
