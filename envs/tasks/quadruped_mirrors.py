"""Left-right mirrors of the actions and observations of `quadruped_velocity`, in the order of its parts."""

from __future__ import annotations

from typing import NamedTuple

import torch

from factory.envs.robots.quadruped import Quadruped
from factory.envs.terms.symmetry import Mirror


class QuadrupedMirrors(NamedTuple):
    """Mirrors of an action, of what the policy observes, and of everything observed."""

    action: Mirror
    policy: Mirror
    critic: Mirror


def quadruped_mirrors(robot: Quadruped, device: torch.device) -> QuadrupedMirrors:
    """Return the mirrors for a robot.

    A mirror changes the sign of the lateral component of a vector, and of the two others of a rotation.
    """
    signs = Mirror.signs
    joints = robot.mirror_joints()

    # Angular velocity, gravity, joint angles, joint velocities.
    sensed = Mirror.concatenate(signs(-1.0, 1.0, -1.0), signs(1.0, -1.0, 1.0), joints, joints)

    # Command, gait clock, last action. Half a period later the diagonal pairs have changed places, so the
    # signs of the clock change.
    known = Mirror.concatenate(signs(1.0, -1.0, -1.0), signs(-1.0, -1.0), joints)

    # Linear velocity, height, heights of the feet FL FR RL RR, friction, payload and motor strength.
    feet = Mirror(torch.tensor([1, 0, 3, 2]), torch.ones(4))
    privileged = Mirror.concatenate(signs(1.0, -1.0, 1.0), signs(1.0), feet, signs(1.0, 1.0, 1.0))

    policy = Mirror.concatenate(sensed, known)
    critic = Mirror.concatenate(policy, privileged)
    return QuadrupedMirrors(joints.to(device), policy.to(device), critic.to(device))
