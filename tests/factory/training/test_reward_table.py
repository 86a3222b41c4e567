"""The table of reward terms: what a resumption keeps, and that a kill loses nothing."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from factory.training.reward_table import RewardTable


def written(path: Path) -> Path:
    """Return a table with the rows of steps 10, 20 and 30."""
    with closing(RewardTable(path, ("upright", "effort"), 0)) as table:
        for step in (10, 20, 30):
            table.append(step, [step / 10.0, -0.5])
    return path


def test_resumption_drops_later_rows_and_goes_on(tmp_path: Path) -> None:
    """Rows up to the resumed step stay, later ones go, new ones follow; no other file is left behind."""
    path = written(tmp_path / "reward_terms.csv")
    with closing(RewardTable(path, ("upright", "effort"), 20)) as table:
        table.append(25, [7.0, 0.25])
    assert path.read_text().splitlines() == ["step,upright,effort", "10,1,-0.5", "20,2,-0.5", "25,7,0.25"]
    assert list(tmp_path.iterdir()) == [path]


def test_death_while_the_table_is_rewritten_loses_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the moment the rewritten table takes the old one's place, the old one is there as it was."""
    path = written(tmp_path / "reward_terms.csv")
    before = path.read_text()

    def die(*_: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        RewardTable(path, ("upright", "effort"), 20)
    assert path.read_text() == before
