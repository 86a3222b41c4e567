"""The gradient of PPO's loss through actor and critic."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import prange

from factory.kernels.activation import ACTIVATIONS
from factory.kernels.compiling import Floats, check, compiled, share
from factory.kernels.layout import padded, rows_of
from factory.kernels.networks import (
    Network,
    gradient_of,
    laid_out,
    make_room,
    network_backward,
    network_forward,
    num_weights,
)
from factory.kernels.passes import BLOCK, part_of

_HALF_LOG_TAU = 0.5 * math.log(math.tau)
_CACHED = 50_000
"""Number of packed parameters up to which a core's cache still has room for the outputs of the layers."""


class Samples(NamedTuple):
    """Numbers of B samples that enter PPO's loss, each (B,) float32."""

    old_log_prob: Floats
    """Log-probability of the action when it was taken."""
    advantage: Floats
    bound: Floats
    """Largest value of the surrogate, A + clip_coef |A|."""
    target: Floats
    """Normalised return."""
    live: Floats
    """1 where the action was executed, else 0."""


@compiled()
def _surrogate(means, values, actions, samples, log_std, coefficients, sums):
    """Replace means and values by the gradients of the loss; add up the other results of `ppo_gradient`.

    Shapes: (N, A padded), (N, 1 padded), (N, A), five of (N,), (A,), (3,), (A + 6,).
    """
    clip_coef, value_coef, entropy_coef = coefficients
    size = len(log_std)

    # For standard deviations s: 1 / s^2, sum_d log(s_d sqrt(2 pi)) and sum_d log(s_d sqrt(2 pi e)).
    # They are the same for all samples, as the deviations do not depend on observations.
    precision = np.empty(size, np.float32)
    log_normalizer = np.float32(0.0)
    entropy = np.float32(0.0)
    for d in range(size):
        precision[d] = math.exp(np.float32(-2.0) * log_std[d])
        log_normalizer += log_std[d] + np.float32(_HALF_LOG_TAU)
        entropy += log_std[d] + np.float32(0.5 + _HALF_LOG_TAU)

    for i in range(len(means)):
        live = samples.live[i]
        bound = samples.bound[i]

        # log r = log pi(a) - log pi_old(a), log pi(a) = -1/2 sum_d (a_d - m_d)^2 / s_d^2 - log_normalizer
        distance = np.float32(0.0)
        for d in range(size):
            z = actions[i, d] - means[i, d]
            distance += z * z * precision[d]
        log_ratio = np.float32(-0.5) * distance - log_normalizer - samples.old_log_prob[i]
        ratio = math.exp(log_ratio)
        surrogate = ratio * samples.advantage[i]
        error = values[i, 0] - samples.target[i]
        excess = ratio - np.float32(1.0)

        # The surrogate is min(r A, bound): its derivative by log pi is r A below the bound and 0 above.
        objective = surrogate
        slope = surrogate
        if surrogate > bound:
            objective = bound
            # Multiplied by zero instead of set to it: an infinite ratio gives NaN and stays visible.
            slope = np.float32(0.0) * surrogate
        by_log_prob = -slope * live

        # d log pi / d m_d = (a_d - m_d) / s_d^2,  d log pi / d log s_d = (a_d - m_d)^2 / s_d^2 - 1,
        # d entropy / d log s_d = 1
        for d in range(size):
            z = actions[i, d] - means[i, d]
            means[i, d] = by_log_prob * z * precision[d]
            sums[d] += by_log_prob * (z * z * precision[d] - np.float32(1.0)) - entropy_coef * live
        values[i, 0] = value_coef * error * live

        # Policy loss, squared value error, entropy, KL estimate k3 = (r - 1) - log r, clipped, live.
        sums[size] -= objective * live
        sums[size + 1] += error * error * live
        sums[size + 2] += entropy * live
        sums[size + 3] += (excess - log_ratio) * live
        sums[size + 4] += live * np.float32(abs(excess) > clip_coef)
        sums[size + 5] += live


@compiled()
def _gradient_rows(
    obs, critic_obs, actions, samples, log_std, coefficients, actor, critic, activation, sums, threads, part
):
    """Run `_gradient` for the rows of one thread."""
    begin, end = part_of(len(obs), threads, part)
    # The outputs of the layers stay in the cache until the backward pass, unless weights alone fill it.
    if num_weights(actor) + num_weights(critic) < _CACHED:
        chunk = BLOCK
    else:
        chunk = max(end - begin, 1)
    actor_room = make_room(actor, chunk)
    critic_room = make_room(critic, chunk)
    size = len(log_std)
    # Outputs of the networks, then overwritten by the gradients of the loss.
    means = np.empty(chunk * padded(size), np.float32)
    values = np.empty(chunk * padded(1), np.float32)
    for low in range(begin, end, chunk):
        high = min(low + chunk, end)
        seen = obs[low:high]
        critic_seen = critic_obs[low:high]
        # Forward, loss and backward of one chunk before the next one begins.
        network_forward(seen, actor, activation, actor_room, means)
        network_forward(critic_seen, critic, activation, critic_room, values)
        _surrogate(
            rows_of(means, 0, high - low, padded(size)),
            rows_of(values, 0, high - low, padded(1)),
            actions[low:high],
            Samples(
                samples.old_log_prob[low:high],
                samples.advantage[low:high],
                samples.bound[low:high],
                samples.target[low:high],
                samples.live[low:high],
            ),
            log_std,
            coefficients,
            sums[part],
        )
        # `means` and `values` now hold the gradients of the loss.
        network_backward(means, seen, actor, activation, actor_room, part)
        network_backward(values, critic_seen, critic, activation, critic_room, part)


@compiled(parallel=True)
def _gradient(
    obs, critic_obs, actions, samples, log_std, coefficients, actor, critic, activation, sums, threads
):
    """Add to every thread's sums: those of the loss and of the gradients by actor and critic."""
    for part in prange(threads):
        _gradient_rows(
            obs,
            critic_obs,
            actions,
            samples,
            log_std,
            coefficients,
            actor,
            critic,
            activation,
            sums,
            threads,
            np.int64(part),
        )


def ppo_gradient(
    obs: Floats,
    critic_obs: Floats,
    actions: Floats,
    samples: Samples,
    flat: Floats,
    actor: Network,
    critic: Network,
    activation: str,
    *,
    clip_coef: float,
    value_coef: float,
    entropy_coef: float,
    threads: int,
) -> Floats:
    """Return the gradient of PPO's loss over all parameters, summed over live samples, and six other sums.

    Actions are Gaussian with a deviation of their own; the loss is -min(r A, bound) + value_coef / 2 error^2
    - entropy_coef entropy, with r the ratio of probabilities. Shape: (P + 6,): as `flat`; then sums of policy
    loss, squared error, entropy, KL estimate (k3, Schulman, http://joschu.net/blog/kl-approx.html), clipped
    and live samples.

    Args:
        obs: observations of the actor, (B, I).
        critic_obs: observations of the critic, (B, J).
        actions: actions that were executed, (B, A).
        samples: numbers of every sample, each (B,).
        flat: logarithm of the deviation (A,), then actor and critic as in `factory.kernels`, (P,).
        actor: the actor's layers.
        critic: the critic's layers.
        activation: of both networks: tanh, elu or relu.
        clip_coef: ratios further from 1 count as clipped.
        value_coef: weight of the value error in the loss.
        entropy_coef: weight of the entropy in the loss.
        threads: number of threads that share the samples.

    Raises:
        ValueError: shapes do not fit.
    """
    # `flat` and the gradient hold log_std (A,), actor, critic; the gradient has six sums behind them.
    size = actor.trunk[-1]
    middle = size + actor.num_parameters
    _check_batch(obs, critic_obs, actions, samples, actor, critic)
    check(flat, middle + critic.num_parameters)
    nets = [laid_out(flat[size:middle], actor, threads), laid_out(flat[middle:], critic, threads)]
    coefficients = np.array([clip_coef, value_coef, entropy_coef], np.float32)
    # In float64: sums over many thousands of samples would lose digits in float32.
    sums = np.zeros((threads, size + 6))
    share(
        (_gradient, _gradient_rows),
        threads,
        obs,
        critic_obs,
        actions,
        samples,
        flat[:size],
        coefficients,
        *nets,
        ACTIVATIONS.index(activation),
        sums,
    )
    result = np.empty(len(flat) + 6, np.float32)
    total = sums.sum(0)
    result[:size] = total[:size]
    result[-6:] = total[size:]
    gradient_of(nets[0], actor, result[size:middle])
    gradient_of(nets[1], critic, result[middle:-6])
    return result


def _check_batch(
    obs: Floats, critic_obs: Floats, actions: Floats, samples: Samples, actor: Network, critic: Network
) -> None:
    """Raise ValueError unless the arrays of a batch fit each other and the networks."""
    rows = len(obs)
    check(obs, rows, actor.num_inputs)
    check(critic_obs, rows, critic.num_inputs)
    check(actions, rows, actor.trunk[-1])
    for values in samples:
        check(values, rows)


def prepare_gradient(threads: int) -> None:
    """Compile the kernels of `ppo_gradient`, or load them from the cache, before the first iteration."""
    number = np.zeros((1, 1), np.float32)
    # All networks have the same types, with a set or without.
    network = Network([1, 1, 1])
    ppo_gradient(
        number,
        number,
        number,
        Samples(*np.zeros((5, 1), np.float32)),
        np.zeros(9, np.float32),
        network,
        network,
        "tanh",
        clip_coef=0.2,
        value_coef=1.0,
        entropy_coef=0.0,
        threads=threads,
    )
