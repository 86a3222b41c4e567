"""Tokens: what counts, what does not, and when figures may be compared."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factory.energy.tokens import TokenCounter, TokenSpec, check_comparable

SPEC = {"kind": "vector", "control_hz": 50.0, "obs_dim": 48, "act_dim": 12}


def test_only_executed_training_actions_are_tokens() -> None:
    """Evaluation and processed samples leave the tokens alone."""
    counter = TokenCounter()
    counter.add(4096)
    counter.add_evaluation(100)
    counter.add_processed(5 * 4096)
    assert (counter.total, counter.evaluation, counter.processed) == (4096, 100, 20_480)


@given(
    masks=st.lists(st.lists(st.sampled_from(["live", "dummy", "dead"]), min_size=4, max_size=4), max_size=20)
)
def test_tokens_are_the_live_world_steps_of_the_masks(masks: list[list[str]]) -> None:
    """Autoreset dummies and quarantined worlds add nothing: tokens = sum of the live mask."""
    counter = TokenCounter()
    for mask in masks:
        counter.add(sum(world == "live" for world in mask))
    assert counter.total == sum(world == "live" for mask in masks for world in mask)


def test_quality_gate_judges_what_was_made_since_the_last() -> None:
    """Good tokens are those of stretches whose evaluation reached the threshold with its lower bound."""
    counter = TokenCounter()
    counter.add(100)
    assert not counter.gate(0.4, threshold=0.8)
    counter.add(50)
    assert counter.gate(0.9, threshold=0.8)
    counter.add(7)
    assert not counter.gate(float("nan"), threshold=0.8)
    assert (counter.good, counter.total) == (50, 157)


def test_counts_survive_a_resumption() -> None:
    """Counts go through JSON and go on."""
    counter = TokenCounter()
    counter.add(100)
    counter.gate(1.0, threshold=0.5)
    resumed = TokenCounter()
    resumed.load_state_dict(json.loads(json.dumps(counter.state_dict())))
    resumed.add(1)
    assert (resumed.total, resumed.good) == (101, 100)


@pytest.mark.parametrize("count", [-1, 1.5, True, "3"])
def test_what_is_no_count_is_refused(count: object) -> None:
    """Negative, fractional and boolean counts are mistakes of the caller."""
    with pytest.raises(ValueError, match="live_world_steps"):
        TokenCounter().add(count)  # type: ignore[arg-type]


def test_foreign_state_is_refused() -> None:
    """A state of another kind is told from a broken one."""
    with pytest.raises(ValueError, match="token state"):
        TokenCounter().load_state_dict({"total": 1})


def test_hash_is_stable_and_pinned() -> None:
    """The hash is the same in every process and version; changing it would break old runs' comparisons."""
    assert TokenSpec(**SPEC).hash == TokenSpec(**SPEC).hash  # type: ignore[arg-type]
    assert TokenSpec(**SPEC).hash == "470c16c62ee0"  # type: ignore[arg-type]
    assert TokenSpec(**(SPEC | {"control_hz": 50})).hash == TokenSpec(**SPEC).hash  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"kind": "chunk"},
        {"control_hz": 25.0},
        {"obs_dim": 49},
        {"act_dim": 13},
    ],
)
def test_every_field_is_in_the_hash(change: dict[str, object]) -> None:
    """Two specs that differ in anything differ in their hash."""
    assert TokenSpec(**(SPEC | change)).hash != TokenSpec(**SPEC).hash  # type: ignore[arg-type]


def test_bad_spec_names_its_key() -> None:
    """A spec without actions is refused."""
    with pytest.raises(ValueError, match=r"token_spec\.act_dim=0"):
        TokenSpec(**(SPEC | {"act_dim": 0}))  # type: ignore[arg-type]


def test_runs_of_different_specs_compare_only_by_force() -> None:
    """Different hashes are refused with their names; the flag is named in the message."""
    runs = {"a": "111", "b": "222"}
    with pytest.raises(ValueError, match=r"a=111, b=222.*force=true"):
        check_comparable(runs)
    check_comparable(runs, force=True)
    check_comparable({"a": "111", "b": "111"})
