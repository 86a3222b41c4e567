"""Legged robots that follow velocity commands.

Sizes: N environments, 12 joints, 4 feet FL FR RL RR. The trunk's frame points forward, left and up.
"""

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
from factory.envs.robots.loading import load_quadruped
from factory.envs.robots.quadruped import column_index
from factory.envs.tasks.quadruped_config import QuadrupedVelocityConfig
from factory.envs.tasks.quadruped_mirrors import quadruped_mirrors
from factory.envs.terms import rewards as term
from factory.envs.terms.rotation import BaseMotion, base_motion
from factory.envs.terms.symmetry import Mirror

_TRUNK_Z = 2
_TRUNK_QUAT = slice(3, 7)
"""Columns of `qpos` with height and orientation (w, x, y, z) of the free joint, which comes first."""
_SENSED = 30
"""Observations with sensor noise: angular velocity 3, gravity 3, joint angles 12, joint velocities 12."""
_FALLEN_GRAVITY_Z = -0.5
"""Gravity along the trunk's z axis beyond which the robot has fallen: -cos(60 degrees)."""
_SUCCESS_RMS_M_PER_S = 0.25
"""RMS velocity error of an episode up to which it is a success."""


class QuadrupedVelocity(BatchEnv):
    """Velocity tracking with a twelve-joint robot, at 50 Hz unless the task says otherwise.

    Action (num_envs, 12): joint targets as offsets from the home pose, in units of the robot's action scale.
    In the second half of a stride, action and observations are those of the robot's mirror image. `policy`
    observation (num_envs, 47), with sensor noise: angular velocity 3, projected gravity 3, joint angles 12,
    joint velocities 12, command 3, gait clock (cos, sin) 2, last action 12. `critic` (num_envs, 58), exact:
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
        self.robot.check_payload(self.cfg.randomization.payload_kg[0])
        self.notes = self.robot.notes
        self.robot.model.opt.timestep = self.cfg.timestep_s
        return self.robot.model

    def _action_box(self) -> Box:
        return Box(-1.0, 1.0, (12,), np.float32)

    def _setup(self) -> None:
        robot = self.robot
        physics = self.physics
        cfg = self.cfg

        def tensor(array: Any) -> Tensor:
            return torch.as_tensor(array, device=self.device)

        def zeros(*size: int) -> Tensor:
            return torch.zeros(self.num_envs, *size, device=self.device)

        # Places in the model.
        self._geom_xpos = physics.field("geom_xpos")
        self._feet = tensor(robot.foot_geoms).long()
        self._hips = tensor(robot.hip_actuators).long()
        self._joint_qpos = column_index(robot.joint_qpos, self.device)
        self._joint_qvel = column_index(robot.joint_qvel, self.device)
        self._leg_of_joint = tensor(robot.leg_of_actuator).long()
        self._mirrors = quadruped_mirrors(robot, self.device)

        # Home pose and gait.
        self._home_qpos = tensor(robot.home_qpos).repeat(self.num_envs, 1)
        self._home_joints = tensor(robot.home_ctrl).float()
        self._home_height_m = float(robot.home_qpos[_TRUNK_Z])
        self._trot_offsets = tensor(term.TROT_OFFSETS_RAD).float()
        self._lift_joints = tensor(robot.lift_offsets(cfg.swing_height_m)).float()
        self._sweep_joints = tensor(robot.sweep_joints()).float()
        self._hip_levers = tensor(robot.hip_levers()).float()

        # Commands.
        self._command_scale = tensor([cfg.command_m_per_s] * 2 + [cfg.command_rad_per_s]).float()
        self._command_step = cfg.command_slew_per_s * self.step_dt_s

        # Half-widths of the sensor noise: gyroscope, gravity, joint angles, joint velocities.
        widths = tensor([0.2] * 3 + [0.05] * 3 + [0.01] * 12 + [0.75] * 12).float()
        self._noise = widths * cfg.randomization.observation_noise

        # Model values that differ between environments, and their nominal ones.
        self._friction = physics.model_field("geom_friction")
        self._mass = physics.model_field("body_mass")
        self._gain = physics.model_field("actuator_gainprm")
        self._bias = physics.model_field("actuator_biasprm")
        self._nominal_mass_kg = float(robot.model.body_mass[robot.base_body])
        self._nominal_kp = tensor(robot.model.actuator_gainprm[:, 0].copy())

        # State of the task.
        self.command = zeros(3)
        self.target = zeros(3)
        self.phase = zeros()
        self._action = zeros(12)
        self._last_action = zeros(12)
        self._payload_kg = zeros()
        self._tracking_error_sq = zeros()

    # Episode start.

    def _reset_envs(self, mask: Tensor) -> None:
        draws = self.uniform(-1.0, 1.0, 16)
        joints, yaw, velocity, phase = draws.split([12, 1, 2, 1], -1)

        # Near the home pose, facing anywhere: the quaternion of a yaw a is (cos a/2, 0, 0, sin a/2).
        qpos = self._home_qpos.clone()
        qpos[:, self._joint_qpos] += 0.1 * joints
        # Bent legs must not start in the ground, which would throw the robot up.
        qpos[:, _TRUNK_Z] += 0.02
        half_yaw = 0.5 * math.pi * yaw[:, 0]
        qpos[:, 3] = half_yaw.cos()
        qpos[:, 6] = half_yaw.sin()
        qvel = torch.zeros_like(self._qvel)
        qvel[:, :2] = 0.3 * velocity
        self._write_state(qpos, qvel, mask)
        self._randomize(mask)

        # The command starts at zero and approaches its target; the gait starts anywhere in the stride.
        self._draw_target(mask)
        self.command.masked_fill_(mask[:, None], 0.0)
        self.phase.copy_(torch.where(mask, math.pi * (phase[:, 0] + 1.0), self.phase))
        self._tracking_error_sq.masked_fill_(mask, 0.0)
        self._action.masked_fill_(mask[:, None], 0.0)

    def _randomize(self, mask: Tensor) -> None:
        """Draw friction, payload and motor strength of the robots in `mask` (N,)."""
        ranges = self.cfg.randomization
        between = lambda low, high, draw: low + (high - low) * draw  # noqa: E731
        for_friction, for_payload, for_strength = self.uniform(0.0, 1.0, 3).double().split(1, -1)

        friction = between(*ranges.friction, for_friction)
        feet = self._friction[:, self._feet, 0]
        self._friction[:, self._feet, 0] = torch.where(mask[:, None], friction.to(feet.dtype), feet)

        payload_kg = between(*ranges.payload_kg, for_payload[:, 0]).float()
        self._payload_kg.copy_(torch.where(mask, payload_kg, self._payload_kg))
        self._mass[:, self.robot.base_body] = self._nominal_mass_kg + self._payload_kg

        # A position actuator is force = gain * ctrl + bias * angle, with gain = kp and bias = -kp.
        strength = between(*ranges.motor_strength, for_strength) * self._nominal_kp
        kp = torch.where(mask[:, None], strength, self._gain[:, :, 0])
        self._gain[:, :, 0] = kp
        self._bias[:, :, 1] = -kp

    def _draw_target(self, mask: Tensor) -> None:
        """Draw new targets for the commands of the robots in `mask` (N,)."""
        direction, standing = self.uniform(-1.0, 1.0, 4).split([3, 1], -1)
        # P(u < 2 p - 1) = p for u uniform in [-1, 1].
        stands = standing < 2.0 * self.cfg.standing_share - 1.0
        drawn = direction * self._command_scale * ~stands
        self.target.copy_(torch.where(mask[:, None], drawn, self.target))

    # Control step.

    def _apply_action(self, action: Tensor) -> None:
        self._last_action.copy_(self._action)
        self._action.copy_(self._as_policy_sees(action.clamp(-1.0, 1.0), self._mirrors.action))
        self._ctrl.copy_(self._home_joints + self._trot() + self.robot.parameters.action_scale * self._action)

    def _trot(self) -> Tensor:
        """Return joint offsets of a trot that steps as commanded; the action modulates it. Shape: (N, 12).

        A reference motion under the policy's command follows "policies modulating trajectory generators"
        (Iscen et al. 2018, arXiv:1910.02812); the step length is Raibert's (1986): the hip's velocity times
        half the stance. Thigh and calf fold to raise the foot under the hip; thigh and hip swing it ahead.
        """
        # Lift: a foot in swing rises straight under its hip, by up to `swing_height_m`.
        swing = term.trot_swing(self.phase, self._trot_offsets)
        lift = swing.index_select(1, self._leg_of_joint) * self._lift_joints

        # Velocity of each hip: v + w x r. A stance foot passes half of what the hip travels on either side of
        # it; 0.35 of a stride, since feet are set down for a little less than half of it.
        hip_velocity = self.command[:, None, :2] + self.command[:, None, 2:] * self._hip_levers
        half_step = hip_velocity * (0.35 / self.cfg.gait_hz / self.robot.leg_length_m)

        # Sweep: forward in swing, backward in stance, 0.4 rad early so that the foot lands foremost.
        ahead = -torch.cos(self.phase[:, None] + self._trot_offsets + 0.4)[..., None] * half_step
        sweep = ahead.index_select(1, self._leg_of_joint) * self._sweep_joints
        return lift * self._moving()[:, None] + sweep.sum(-1)

    def _get_rewards_and_dones(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        self.phase.copy_((self.phase + math.tau * self.cfg.gait_hz * self.step_dt_s).remainder(math.tau))
        motion = self._base_motion()
        planar_error_sq = (motion.linear[:, :2] - self.command[:, :2]).square()
        yaw_error_sq = (motion.angular[:, 2] - self.command[:, 2]).square()
        height = self._qpos[:, _TRUNK_Z].float()
        fallen = (motion.gravity[:, 2] > _FALLEN_GRAVITY_Z) | (height < 0.5 * self._home_height_m)
        terms = self._reward_terms(motion, height, planar_error_sq.sum(-1), yaw_error_sq, fallen)

        # The whole episode decides, pushes and changes of the command included.
        self._tracking_error_sq += planar_error_sq.sum(-1)
        rms = (self._tracking_error_sq / (self.episode_steps.clamp(min=1))).sqrt()
        info = {
            "reward_terms": terms,
            "success": ~fallen & (rms < _SUCCESS_RMS_M_PER_S),
            "diagnostics": {
                "forward_error_sq": planar_error_sq[:, 0],
                "lateral_error_sq": planar_error_sq[:, 1],
                "yaw_error_sq": yaw_error_sq,
                "fall": fallen.float(),
            },
        }
        # Rewards belong to the command that the policy saw, so it changes after them.
        self._disturb()
        return terms.sum(-1), fallen, info

    def _reward_terms(
        self,
        motion: BaseMotion,
        height: Tensor,
        planar_error_sq: Tensor,
        yaw_error_sq: Tensor,
        fallen: Tensor,
    ) -> Tensor:
        """Return the weighted terms, one column a name in `reward_terms`. Shape: (num_envs, 9)."""
        w = self.cfg.rewards
        # Spheres touch the ground when their centres are a radius above it.
        feet = self._geom_xpos[:, self._feet, 2] - self.robot.foot_radius_m
        swing = term.trot_swing(self.phase, self._trot_offsets) * self._moving()[:, None]
        hips = self._qpos[:, self._joint_qpos].float()[:, self._hips] - self._home_joints[self._hips]
        terms = (
            w.linear_velocity * term.reward_tracking(planar_error_sq, sigma=w.tracking_sigma),
            w.angular_velocity * term.reward_tracking(yaw_error_sq, sigma=w.angular_sigma),
            w.feet_phase * term.reward_feet_phase(feet, swing, swing_height=self.cfg.swing_height_m),
            w.vertical * term.cost_vertical(motion.linear, motion.angular),
            w.tilt * term.cost_tilt(motion.gravity),
            w.height * term.cost_height(height, self._home_height_m),
            w.action_rate * term.cost_action_rate(self._action, self._last_action),
            w.hips * term.cost_hips(hips),
            w.fall * fallen.float(),
        )
        return torch.stack(terms, -1) * self.step_dt_s

    def _disturb(self) -> None:
        """Push some robots, give some a new target, and let the commands approach their targets."""
        ranges = self.cfg.randomization
        push, direction, change = self.uniform(0.0, 1.0, 4).split([1, 2, 1], -1)

        # Poisson events of mean interval T happen in a step of length dt with probability dt / T.
        pushed = push < self.step_dt_s / ranges.push_interval_s
        self._qvel[:, :2] += ranges.push_m_per_s * (2.0 * direction - 1.0) * pushed
        self._draw_target(change[:, 0] < self.step_dt_s / self.cfg.command_interval_s)

        # A straight line to the target: the component that is farthest off moves by a full step.
        distance = (self.target - self.command) / self._command_step
        longest = distance.abs().amax(-1, keepdim=True).clamp(min=1.0)
        self.command += self._command_step * distance / longest

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
            self._qpos[:, _TRUNK_Z, None].float(),
            self._geom_xpos[:, self._feet, 2],
            self._friction[:, self._feet[:1], 0].float(),
            self._payload_kg[:, None],
            self._gain[:, :1, 0].float(),
        )
        exact = self._as_policy_sees(torch.cat([sensed, known, *privileged], -1), self._mirrors.critic)
        # The critic sees all of it exactly, the policy the first part, with noise on its sensors.
        policy = exact[:, : self._mirrors.policy.index.numel()].clone()
        policy[:, :_SENSED] += self.uniform(-1.0, 1.0, _SENSED) * self._noise
        return {"policy": policy, "critic": exact}

    def _as_policy_sees(self, value: Tensor, mirror: Mirror) -> Tensor:
        """Mirror worlds in the second half of their stride, where left and right have changed places.

        So the policy meets one half of the gait only, and the gait is exactly symmetric. The same call takes
        an action back, since a mirror is its own inverse.
        """
        # Exact at both ends, and on a CPU a fraction of what `torch.where` costs with a mask that broadcasts.
        return torch.lerp(value, mirror(value), (self.phase >= math.pi).float()[:, None])

    def _base_motion(self) -> BaseMotion:
        """Return the trunk's motion in its own frame."""
        return base_motion(self._qpos[:, _TRUNK_QUAT].float(), self._qvel[:, :6].float())

    def _moving(self) -> Tensor:
        """Return 1 where a motion is commanded, fading to 0 for standing. Shape: (num_envs,)."""
        return (self.command.abs().amax(-1) / 0.1).clamp(max=1.0)

    def eval_metrics(self, means: dict[str, float]) -> dict[str, float]:
        """Return RMS tracking errors, transients and pushes included; the planar one is the vector's."""
        forward = means["forward_error_sq"]
        lateral = means["lateral_error_sq"]
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
