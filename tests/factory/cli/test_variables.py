"""Odd values of environment variables are refused by name before anything is loaded."""

from __future__ import annotations

import pytest

from factory.cli.variables import check_variables


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"RANK": "x", "WORLD_SIZE": "y"}, "RANK=x"),
        ({"RANK": "1"}, "RANK=1"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2"),
        ({"NUMBA_NUM_THREADS": "0"}, "NUMBA_NUM_THREADS=0"),
        ({"NUMBA_NUM_THREADS": "many"}, "NUMBA_NUM_THREADS=many"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], name: str
) -> None:
    """The line has name and value; the variables of torchrun pass."""
    for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(key, raising=False)
    check_variables()
    for key, value in variables.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ValueError, match=name):
        check_variables()


def test_variables_of_torchrun_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank below the size, with the address of rank 0, is what torchrun sets."""
    for key, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(key, value)
    check_variables()
