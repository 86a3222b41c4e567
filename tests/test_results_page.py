"""Results go between the marks of a page, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
from results_page import BEGIN, END, insert_results


def test_new_results_take_the_place_of_old_ones(tmp_path: Path) -> None:
    """What stands before and after the marks stays, and doing it twice changes nothing."""
    page = tmp_path / "README.md"
    page.write_text(f"question\n{BEGIN}\nold\n{END}\nanswer\n")
    for _ in range(2):
        insert_results("new", page)
        assert page.read_text() == f"question\n{BEGIN}\nnew\n{END}\nanswer\n"


@pytest.mark.parametrize("text", ["", BEGIN, END, f"{END} {BEGIN}", f"{BEGIN} {END} {END}"])
def test_a_page_without_one_place_for_them_is_left_alone(tmp_path: Path, text: str) -> None:
    """A page that lost a mark says so instead of losing what stands below it."""
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="no place for results"):
        insert_results("new", page)
    assert page.read_text() == text
