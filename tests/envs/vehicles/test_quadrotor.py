"""The quadrotor obeys the laws of a rigid body, and its rotors and controller do as they are documented."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from factory.envs.vehicles.quadrotor import (
    GRAVITY,
    Quadrotor,
    QuadrotorBody,
    QuadrotorConditions,
    QuadrotorState,
    rotation,
    rotor_axis,
    to_body,
)

BODY = QuadrotorBody()
QUADROTOR = Quadrotor(BODY, torch.device("cpu"))
HOVER_N = 0.25 * BODY.weight_n


def level(*, rotors: float = HOVER_N, rates: tuple[float, ...] = (0.0, 0.0, 0.0)) -> QuadrotorState:
    """Return one level drone at rest."""
    attitude = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    zero = torch.zeros(3, 1)
    return QuadrotorState(zero, zero, attitude, torch.tensor(rates)[:, None], torch.full((4, 1), rotors))


def conditions(
    *, drag: float = 0.0, wind: float = 0.0, mass: float = 1.0, lag_s: float = 0.03
) -> QuadrotorConditions:
    """Return conditions of one drone; the wind blows along x."""
    one = torch.ones(1)
    return QuadrotorConditions(
        mass=mass * one,
        inertia=one,
        thrust=one,
        drag_per_s=drag * one,
        motor_lag_s=lag_s * one,
        wind=torch.tensor([[wind], [0.0], [0.0]]),
    )


def fly(state: QuadrotorState, rotors: Tensor, drawn: QuadrotorConditions, *, steps: int) -> QuadrotorState:
    """Return the state after steps of 5 ms with constant commands."""
    for _ in range(steps):
        state = QUADROTOR.step(state, rotors, conditions=drawn, dt_s=0.005)
    return state


def test_hovers_falls_and_lags() -> None:
    """Rotors that carry the weight hold a drone, without thrust it falls, and thrust lags exponentially."""
    hover = torch.full((4, 1), HOVER_N)
    assert fly(level(), hover, conditions(), steps=200).position.abs().max() < 1e-4
    fallen = fly(level(rotors=0.0), torch.zeros(4, 1), conditions(), steps=100)
    assert float(fallen.position[2]) == pytest.approx(-0.5 * GRAVITY * 0.5**2, rel=0.02)
    started = fly(level(rotors=0.0), hover, conditions(lag_s=0.05), steps=10)
    assert float(started.rotors[0]) == pytest.approx(HOVER_N * (1.0 - math.exp(-1.0)), rel=1e-3)
    too_much = fly(level(), torch.full((4, 1), 100.0), conditions(), steps=100)
    assert float(too_much.rotors.max()) == pytest.approx(BODY.rotor_thrust_n, rel=1e-3)


def test_spinning_body_keeps_its_angular_momentum() -> None:
    """Without torque, angular momentum in the world's frame is constant, and the quaternion has length 1."""
    inertia = torch.tensor(BODY.inertia_kg_m2)[:, None]
    before = level(rotors=0.0, rates=(3.0, 0.5, 2.0))
    after = fly(before, torch.zeros(4, 1), conditions(), steps=200)
    momentum = (rotation(after.attitude) * (inertia * after.rates)).sum(1)
    assert torch.allclose(momentum, inertia * before.rates, atol=3e-4)
    assert float(after.attitude.norm()) == pytest.approx(1.0, abs=1e-6)
    assert not torch.allclose(after.rates, before.rates, atol=0.5)


def test_stronger_rotors_turn_the_drone_away_from_their_side() -> None:
    """Left rotors roll it to the right, front rotors pitch it up, a diagonal pair yaws it."""
    turns = {(1, 0, 1, 0): (1, 0, 0), (1, 1, 0, 0): (0, -1, 0), (1, 0, 0, 1): (0, 0, 1)}
    for strong, signs in turns.items():
        rotors = HOVER_N * (1.0 + 0.1 * torch.tensor(strong)[:, None])
        rates = fly(level(), rotors, conditions(), steps=4).rates[:, 0]
        assert [round(float(rate.sign())) * (abs(float(rate)) > 1e-4) for rate in rates] == list(signs)


def test_controller_follows_commanded_rates_at_the_wanted_thrust() -> None:
    """After 0.3 s the rates are those of the command, and the rotors carry the wanted thrust together."""
    state = level()
    wanted = torch.tensor([[2.0], [-1.0], [1.0]])
    thrust = torch.tensor([1.2 * BODY.weight_n])
    for _ in range(60):
        rotors = QUADROTOR.rotors_for(thrust, wanted, present_rates=state.rates)
        state = QUADROTOR.step(state, rotors, conditions=conditions(), dt_s=0.005)
    assert torch.allclose(state.rates, wanted, atol=0.1)
    assert float(state.rotors.sum()) == pytest.approx(float(thrust), rel=1e-3)


def test_wind_pushes_across_the_rotors_and_mass_weighs() -> None:
    """A level drone at rest is accelerated by drag times wind; one that is too heavy sinks."""
    hover = torch.full((4, 1), HOVER_N)
    blown = fly(level(), hover, conditions(drag=0.5, wind=2.0), steps=20)
    assert blown.velocity[:, 0].tolist() == pytest.approx([0.1, 0.0, 0.0], abs=4e-3)
    sunk = fly(level(), hover, conditions(mass=1.25), steps=20)
    assert float(sunk.velocity[2]) == pytest.approx(-0.2 * GRAVITY * 0.1, rel=1e-3)


def test_rotation_turns_the_axes() -> None:
    """A quarter turn about z carries x to y; the body sees a world's vector turned back."""
    half = math.sqrt(0.5)
    attitude = torch.tensor([[half], [0.0], [0.0], [half]])
    matrix = rotation(attitude)
    assert torch.allclose(matrix[:, 0, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    assert torch.allclose(matrix[:, 2], rotor_axis(attitude))
    north = torch.tensor([[[0.0], [1.0], [0.0]]])
    assert torch.allclose(to_body(north, matrix)[0, :, 0], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
