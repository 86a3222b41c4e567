"""Real robots from MuJoCo Menagerie: which entry to load, and what their MJCF does not say."""

from __future__ import annotations

from pathlib import Path

from factory.envs.robots.sources import QuadrupedParameters

_TUNED = QuadrupedParameters(kp=80.0, damping=0.8, armature=0.01)

QUADRUPEDS: dict[str, tuple[str, QuadrupedParameters]] = {
    "unitree_go1": ("go1", _TUNED),
    "unitree_go2": ("go2", _TUNED),
}
"""Name -> (entry of the Menagerie registry, particulars)."""


def robot_file(name: str, entry: str) -> Path:
    """Return the MJCF of a Menagerie robot, downloaded at first use (`MENAGERIE_ROOT` names a local copy).

    Raises:
        ValueError: it is neither at hand nor can it be downloaded.
    """
    import mujoco_menagerie

    try:
        return Path(mujoco_menagerie.get(name).path()) / f"{entry}.xml"
    except (mujoco_menagerie.MenagerieError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"cannot be downloaded ({reason}); set MENAGERIE_ROOT to a local copy") from error
