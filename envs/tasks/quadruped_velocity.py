"""Legged robots that follow velocity commands."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from factory.envs.core.batch_env import BatchEnv
from factory.envs.core.observations import Observation
from factory.envs.robots.quadruped import load_quadruped
from factory.envs.tasks.quadruped_config import QuadrupedVelocityConfig
from factory.envs.terms import rewards as term
from factory.envs.terms.rotation import projected_gravity, rotate_inverse
from factory.envs.terms.symmetry import Mirror

_SENSED = 30
"""Observations that carry sensor noise: angular velocity, gravity, joint angles, joint velocities."""


class QuadrupedVelocity(BatchEnv):
    """Velocity tracking with a twelve-joint robot, at 50 Hz unless the task says otherwise.

    Action (num_envs, 12): joint targets as offsets from the home pose, in units of the robot's action scale.
    In the second half of a stride, action and observations are those of the robot's mirror image.
    `policy` observation (num_envs, 47), with sensor noise: angular velocity 3, projected gravity 3, joint
    angles 12, joint velocities 12, command 3, gait clock (cos, sin) 2, last action 12. `critic` (num_envs, 58), exact:
    the same and linear velocity 3, trunk height 1, foot heights 4, friction 1, payload 1, motor strength 1.
    An episode ends when the trunk tilts by more than 60 degrees or sinks below half its home height.
    """

    config = QuadrupedVelocityConfig
    defines_success = True
    defines_fall = True
    reward_terms = (
        "linear_velocity",
        "angular_velocity",
        "feet_phase",
        "vertical",
        "tilt",
        "height",
        "action_rate",
        "hips",
        "fall",
    )
    persistent = ("command", "target", "phase", "_action", "_payload_kg", "_tracking_error_sq")

    cfg: QuadrupedVelocityConfig

    def _load_model(self) -> mujoco.MjModel:
        self.robot = load_quadruped(self.cfg.robot)
        self.robot.model.opt.timestep = self.cfg.timestep_s
        return self.robot.model

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (12,), np.float32)

    def _setup(self) -> None:
        robot, physics = self.robot, self.physics
        model = robot.model
        tensor = lambda array: torch.as_tensor(array, device=self.device)  # noqa: E731
        self._geom_xpos = physics.field("geom_xpos")
        self._home_qpos = tensor(robot.home_qpos).repeat(self.num_envs, 1)
        self._home_joints = tensor(robot.home_ctrl).float()
        self._feet = tensor(robot.foot_geoms).long()
        self._hips = tensor(robot.hip_actuators).long()
        self._joint_qpos, self._joint_qvel = _columns(robot.joint_qpos), _columns(robot.joint_qvel)
        self._make_mirrors()
        self._command_scale = tensor([self.cfg.command_m_per_s] * 2 + [self.cfg.command_rad_per_s]).float()
        self._command_step = self.cfg.command_slew_per_s * self.step_dt_s
        # Half-widths of the sensor noise: gyroscope, gravity, joint angles, joint velocities.
        widths = tensor([0.2] * 3 + [0.05] * 3 + [0.01] * 12 + [0.75] * 12).float()
        self._noise = widths * self.cfg.randomization.observation_noise
        self._trot_offsets = tensor(term.TROT_OFFSETS_RAD).float()
        self._leg_of_joint = tensor(robot.leg_of_actuator).long()
        self._lift_joints = tensor(robot.lift_offsets(self.cfg.swing_height_m)).float()
        self._sweep_joints = tensor(robot.sweep_joints()).float()
        self._hip_levers = tensor(robot.hip_levers()).float()
        self._friction = physics.model_field("geom_friction")
        self._mass = physics.model_field("body_mass")
        self._gain, self._bias = (
            physics.model_field("actuator_gainprm"),
            physics.model_field("actuator_biasprm"),
        )
        self._nominal_mass_kg = float(model.body_mass[robot.base_body])
        self._nominal_kp = tensor(model.actuator_gainprm[:, 0].copy())
        self.command = torch.zeros(self.num_envs, 3, device=self.device)
        self.phase = torch.zeros(self.num_envs, device=self.device)
        self._action = torch.zeros(self.num_envs, 12, device=self.device)
        self._last_action = torch.zeros(self.num_envs, 12, device=self.device)
        self.target = torch.zeros(self.num_envs, 3, device=self.device)
        self._payload_kg = torch.zeros(self.num_envs, device=self.device)
        self._tracking_error_sq = torch.zeros(self.num_envs, device=self.device)

    # Episode start.

    def _reset_envs(self, mask: Tensor) -> None:
        draws = self.uniform(-1.0, 1.0, 16)
        qpos = self._home_qpos.clone()
        qpos[:, self._joint_qpos] += 0.1 * draws[:, :12]
        qpos[:, 2] += 0.02  # bent legs must not start in the ground, which would throw the robot up
        half_yaw = 0.5 * math.pi * draws[:, 12]
        qpos[:, 3], qpos[:, 6] = half_yaw.cos(), half_yaw.sin()
        qvel = torch.zeros_like(self._qvel)
        qvel[:, :2] = 0.3 * draws[:, 13:15]
        self._write_state(qpos, qvel, mask)
        self._randomize(mask)
        self._draw_target(mask)
        self.command.masked_fill_(mask[:, None], 0.0)
        self.phase.copy_(torch.where(mask, math.pi * (draws[:, 15] + 1.0), self.phase))
        self._tracking_error_sq.masked_fill_(mask, 0.0)
        self._action.masked_fill_(mask[:, None], 0.0)

    def _randomize(self, mask: Tensor) -> None:
        ranges = self.cfg.randomization
        between = lambda low, high, draw: low + (high - low) * draw  # noqa: E731
        draws = self.uniform(0.0, 1.0, 3).double()
        friction = between(*ranges.friction, draws[:, :1])
        feet = self._friction[:, self._feet, 0]
        self._friction[:, self._feet, 0] = torch.where(mask[:, None], friction.to(feet.dtype), feet)
        payload_kg = between(*ranges.payload_kg, draws[:, 1]).float()
        self._payload_kg.copy_(torch.where(mask, payload_kg, self._payload_kg))
        self._mass[:, self.robot.base_body] = self._nominal_mass_kg + self._payload_kg
        strength = between(*ranges.motor_strength, draws[:, 2:]) * self._nominal_kp
        kp = torch.where(mask[:, None], strength, self._gain[:, :, 0])
        self._gain[:, :, 0], self._bias[:, :, 1] = kp, -kp

    def _draw_target(self, mask: Tensor) -> None:
        draws = self.uniform(-1.0, 1.0, 4)
        stands = draws[:, 3:] < 2.0 * self.cfg.standing_share - 1.0
        drawn = draws[:, :3] * self._command_scale * ~stands
        self.target.copy_(torch.where(mask[:, None], drawn, self.target))

    # Control step.

    def _apply_action(self, action: Tensor) -> None:
        self._last_action.copy_(self._action)
        self._action.copy_(self._as_policy_sees(action.clamp(-1.0, 1.0), self._action_mirror))
        self._ctrl.copy_(self._home_joints + self._trot() + self.robot.parameters.action_scale * self._action)

    def _trot(self) -> Tensor:
        """Return joint offsets of a trot that steps as commanded; the action modulates it. Shape: (num_envs, 12).

        A reference motion under the policy's command follows "policies modulating trajectory generators" (Iscen et
        al. 2018, arXiv:1910.02812); the step length is Raibert's (1986): the hip's velocity times half the stance.
        Thigh and calf fold so that the foot rises under the hip; thigh and hip swing so that it is set down ahead.
        """
        command, moving = self.command, self._moving()[:, None]
        lift = (
            term.trot_swing(self.phase, self._trot_offsets).index_select(1, self._leg_of_joint)
            * self._lift_joints
        )
        velocity = command[:, None, :2] + command[:, None, 2:] * self._hip_levers
        half_step = velocity * (0.35 / self.cfg.gait_hz / self.robot.leg_length_m)
        ahead = -torch.cos(self.phase[:, None] + self._trot_offsets + 0.4)[..., None] * half_step
        sweep = ahead.index_select(1, self._leg_of_joint) * self._sweep_joints
        return lift * moving + sweep.sum(-1)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        cfg = self.cfg
        self.phase.copy_((self.phase + math.tau * cfg.gait_hz * self.step_dt_s).remainder(math.tau))
        velocity, angular, gravity = self._base_motion()
        planar_error_sq = (velocity[:, :2] - self.command[:, :2]).square()
        yaw_error_sq = (angular[:, 2] - self.command[:, 2]).square()
        height = self._qpos[:, 2].float()
        fallen = (gravity[:, 2] > -0.5) | (height < 0.5 * float(self.robot.home_qpos[2]))
        terms = self._reward_terms(
            velocity, angular, gravity, height, planar_error_sq.sum(-1), yaw_error_sq, fallen
        )
        self._tracking_error_sq += planar_error_sq.sum(-1)
        rms = (self._tracking_error_sq / (self.episode_steps.clamp(min=1))).sqrt()
        info = {
            "reward_terms": terms,
            "success": ~fallen & (rms < 0.25),
            "diagnostics": {
                "forward_error_sq": planar_error_sq[:, 0],
                "lateral_error_sq": planar_error_sq[:, 1],
                "yaw_error_sq": yaw_error_sq,
                "fall": fallen.float(),
            },
        }
        self._disturb()
        return terms.sum(-1), fallen, info

    def _reward_terms(
        self,
        velocity: Tensor,
        angular: Tensor,
        gravity: Tensor,
        height: Tensor,
        planar_error_sq: Tensor,
        yaw_error_sq: Tensor,
        fallen: Tensor,
    ) -> Tensor:
        """Return the weighted terms, one column a name in `reward_terms`. Shape: (num_envs, 9)."""
        w = self.cfg.rewards
        feet = self._geom_xpos[:, self._feet, 2] - self.robot.foot_radius_m
        moving, swing = self._moving(), term.trot_swing(self.phase, self._trot_offsets)
        hips = self._qpos[:, self._joint_qpos].float()[:, self._hips] - self._home_joints[self._hips]
        terms = (
            w.linear_velocity * term.reward_tracking(planar_error_sq, sigma=w.tracking_sigma),
            w.angular_velocity * term.reward_tracking(yaw_error_sq, sigma=w.angular_sigma),
            w.feet_phase
            * term.reward_feet_phase(feet, swing * moving[:, None], swing_height=self.cfg.swing_height_m),
            w.vertical * term.cost_vertical(velocity, angular),
            w.tilt * term.cost_tilt(gravity),
            w.height * term.cost_height(height, float(self.robot.home_qpos[2])),
            w.action_rate * term.cost_action_rate(self._action, self._last_action),
            w.hips * term.cost_hips(hips),
            w.fall * fallen.float(),
        )
        return torch.stack(terms, -1) * self.step_dt_s

    def _disturb(self) -> None:
        """Push some worlds, give some a new target, both as Poisson events; and let the commands approach theirs."""
        ranges, draws = self.cfg.randomization, self.uniform(0.0, 1.0, 4)
        pushed = draws[:, :1] < self.step_dt_s / ranges.push_interval_s
        self._qvel[:, :2] += ranges.push_m_per_s * (2.0 * draws[:, 1:3] - 1.0) * pushed
        self._draw_target(draws[:, 3] < self.step_dt_s / self.cfg.command_interval_s)
        change = (self.target - self.command) / self._command_step
        self.command += self._command_step * change / change.abs().amax(-1, keepdim=True).clamp(min=1.0)

    # Observation.

    def _get_observations(self) -> Observation:
        velocity, angular, gravity = self._base_motion()
        clock = torch.stack([self.phase.cos(), self.phase.sin()], -1) * self._moving()[:, None]
        joints = self._qpos[:, self._joint_qpos].float() - self._home_joints
        speeds = self._qvel[:, self._joint_qvel].float()
        sensed = torch.cat([angular, gravity, joints, speeds], -1)
        known = torch.cat([self.command, clock, self._action], -1)
        privileged = (
            velocity,
            self._qpos[:, 2:3].float(),
            self._geom_xpos[:, self._feet, 2],
            self._friction[:, self._feet[:1], 0].float(),
            self._payload_kg[:, None],
            self._gain[:, :1, 0].float(),
        )
        exact = self._as_policy_sees(torch.cat([sensed, known, *privileged], -1), self._obs_mirror)
        policy = exact[:, : self._policy_size].clone()
        policy[:, :_SENSED] += self.uniform(-1.0, 1.0, _SENSED) * self._noise
        return {"policy": policy, "critic": exact}

    def _as_policy_sees(self, value: Tensor, mirror: Mirror) -> Tensor:
        """Mirror worlds in the second half of their stride, where left and right have changed places.

        So the policy meets one half of the gait only, and the gait is exactly symmetric. The same call takes an
        action back, since a mirror is its own inverse.
        """
        # Exact at both ends, and on a CPU a fraction of what `torch.where` costs with a mask that broadcasts.
        return torch.lerp(value, mirror(value), (self.phase >= math.pi).float()[:, None])

    def _make_mirrors(self) -> None:
        """Set up the left-right mirrors of an action and of an observation."""
        signs, joints = Mirror.signs, self.robot.mirror_joints()
        sensed = Mirror.concatenate(signs(-1.0, 1.0, -1.0), signs(1.0, -1.0, 1.0), joints, joints)
        # Half a period later the diagonal pairs have changed places, so the clock's signs change.
        known = Mirror.concatenate(signs(1.0, -1.0, -1.0), signs(-1.0, -1.0), joints)
        feet = Mirror(torch.tensor([1, 0, 3, 2]), torch.ones(4))
        privileged = Mirror.concatenate(signs(1.0, -1.0, 1.0), signs(1.0), feet, signs(1.0, 1.0, 1.0))
        self._policy_size = sensed.index.numel() + known.index.numel()
        self._action_mirror = joints.to(self.device)
        self._obs_mirror = Mirror.concatenate(sensed, known, privileged).to(self.device)

    def _base_motion(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return linear and angular velocity and gravity in the trunk's frame. Shapes: (num_envs, 3)."""
        quat, velocity = self._qpos[:, 3:7].float(), self._qvel[:, :6].float()
        return rotate_inverse(quat, velocity[:, :3]), velocity[:, 3:], projected_gravity(quat)

    def _moving(self) -> Tensor:
        """Return 1 where a motion is commanded, fading to 0 for standing. Shape: (num_envs,)."""
        return (self.command.abs().amax(-1) / 0.1).clamp(max=1.0)

    def eval_metrics(self, means: dict[str, float]) -> dict[str, float]:
        """Return RMS tracking errors; the planar one is of the velocity vector, transients and pushes included."""
        forward, lateral = means["forward_error_sq"], means["lateral_error_sq"]
        return {
            "velocity_rms_m_per_s": math.sqrt(forward + lateral),
            "forward_rms_m_per_s": math.sqrt(forward),
            "lateral_rms_m_per_s": math.sqrt(lateral),
            "yaw_rms_rad_per_s": math.sqrt(means["yaw_error_sq"]),
        }

    @property
    def robot_name(self) -> str:
        """Name of the robot that was loaded."""
        return self.robot.name

    def set_demo_command(self, time_s: float) -> None:
        """Show what the robot can do: forward, sideways, diagonally, turning, backward, standing."""
        script = [(1.0, 0, 0), (0, 0.8, 0), (0.7, -0.7, 0), (0.5, 0, 1.0), (-0.8, 0, 0), (0, 0, 0)]
        self.target.copy_(torch.tensor(script[int(time_s / 2.0) % len(script)]).expand(self.num_envs, 3))

    def captions(self) -> list[str]:
        """Return command and motion of every world."""
        velocity, angular, _ = self._base_motion()
        rows = zip(self.command.tolist(), velocity.tolist(), angular.tolist(), strict=True)
        return [
            f"command {c[0]:+.1f} {c[1]:+.1f} m/s {c[2]:+.1f} rad/s   "
            f"robot {v[0]:+.1f} {v[1]:+.1f} m/s {w[2]:+.1f} rad/s"
            for c, v, w in rows
        ]


def _columns(addresses: np.ndarray) -> slice | Tensor:
    """Return an index for columns: a slice, which copies nothing, where they follow one another."""
    first = int(addresses[0])
    if np.array_equal(addresses, np.arange(first, first + len(addresses))):
        return slice(first, first + len(addresses))
    return torch.as_tensor(addresses).long()
