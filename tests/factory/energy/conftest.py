"""Make the fake instruments of this folder importable under any import mode of pytest."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("energy", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("energy")
