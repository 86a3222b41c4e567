"""The production line of the robot-training AI factory. Importing this imports nothing heavy."""

from __future__ import annotations

import logging
import os

from factory.runtime.deferred_opengl import defer_opengl
from factory.runtime.forks import keep_inherited_objects

__version__ = "0.1.0"

# libgomp reads these once, when torch loads it. Threads that spin for long after a tensor operation take the
# cores from the physics; threads that sleep at once cost the update a third of its speed. docs/threads.md has
# the figures.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# Must come before the first `import mujoco`, whoever imports it.
defer_opengl()

keep_inherited_objects()

logging.getLogger(__name__).addHandler(logging.NullHandler())
