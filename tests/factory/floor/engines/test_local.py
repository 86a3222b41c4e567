"""The local engine."""

from __future__ import annotations

import pytest
from engine_checks import EngineChecks

from factory.floor.engines.local import LocalEngine

pytestmark = pytest.mark.slow


class TestLocal(EngineChecks):
    """The list of all engines, with processes of this machine."""

    @pytest.fixture
    def engine(self) -> LocalEngine:
        return LocalEngine(cores=2.0)

    @pytest.fixture
    def another(self) -> LocalEngine:
        return LocalEngine(cores=2.0)
