"""Wrappers of torch vector environments, named and meant as those of `gymnasium.wrappers.vector`.

They work in all three autoreset modes, transform `info["final_obs"]` too, and are graph-safe as `BatchEnv`
is: state lives in tensors that are written in place, and no step reads a tensor on the host.
`docs/wrappers.md` says how they differ from Gymnasium's.
"""

from __future__ import annotations

from factory.envs.wrappers.action import ActionDelay, ClipAction, RescaleAction
from factory.envs.wrappers.base import EpisodeWrapper, TorchWrapper
from factory.envs.wrappers.history import HistoryObservation
from factory.envs.wrappers.normalize import NormalizeObservation, NormalizeReward, RunningMeanStd
from factory.envs.wrappers.statistics import RecordEpisodeStatistics
from factory.envs.wrappers.to_numpy import ToNumpy

__all__ = [
    "ActionDelay",
    "ClipAction",
    "EpisodeWrapper",
    "HistoryObservation",
    "NormalizeObservation",
    "NormalizeReward",
    "RecordEpisodeStatistics",
    "RescaleAction",
    "RunningMeanStd",
    "ToNumpy",
    "TorchWrapper",
]
