"""The measured cost of a restart."""

from __future__ import annotations

import pytest

from factory.floor.restarts import PRIOR_S, RestartCosts


def test_prior_counts_until_a_start_was_seen():
    costs = RestartCosts({})
    assert costs.cost_s("cartpole_swingup") == PRIOR_S

    costs.note("cartpole_swingup", 4.0)

    assert costs.cost_s("cartpole_swingup") == 4.0


def test_own_starts_of_a_task_count_before_those_of_others():
    costs = RestartCosts({"quadruped_velocity": [9.0, 11.0, 10.0], "cartpole_swingup": [4.0]})

    assert costs.cost_s("quadruped_velocity") == 10.0
    # A task without any start takes the median of all four.
    assert costs.cost_s("car_track") == pytest.approx(9.5)


def test_old_starts_are_forgotten_and_the_rest_outlives_the_process():
    costs = RestartCosts({})
    for cpu_s in (100.0, 100.0, 100.0, *(float(number) for number in range(1, 10))):
        costs.note("smoke", cpu_s)

    again = RestartCosts(costs.to_plain())

    assert again.cost_s("smoke") == 5.0
