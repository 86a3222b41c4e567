"""CPU kernels of policies, PPO and lidars, compiled by Numba for the processor at hand.

`FACTORY_KERNELS=off` switches them off: torch computes the same, for comparison and debugging.

Samples go through all layers in blocks that stay in the cache, every thread with blocks of its own. Matrix
products keep a tile of the result in vector registers. Weights are copied with their columns filled up to
whole vectors; the added columns stay zero in every layer, since every activation maps zero to zero.

Shapes: B samples, I features, O outputs, H hidden units of all layers, each rounded up to whole vectors.
`sizes` is I, the units of every hidden layer, O; `flat` holds weight (outputs, inputs) and bias of one layer
after the other.
"""

from factory.kernels.compiling import are_enabled
from factory.kernels.networks import Network, network_outputs
from factory.kernels.passes import backward, forward, prepare_passes
from factory.kernels.ppo_gradient import Samples, ppo_gradient, prepare_gradient

__all__ = [
    "Network",
    "Samples",
    "are_enabled",
    "backward",
    "forward",
    "network_outputs",
    "ppo_gradient",
    "prepare_gradient",
    "prepare_passes",
]
