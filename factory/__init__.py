"""The production line of the robot-training AI factory. Importing this imports nothing heavy."""

from __future__ import annotations

import logging
import os

__version__ = "0.1.0"

# libgomp reads this once, when torch loads it. Spinning OpenMP threads would take the cores from the
# physics threads between two tensor operations; see docs/threads.md for what was measured.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

logging.getLogger(__name__).addHandler(logging.NullHandler())
