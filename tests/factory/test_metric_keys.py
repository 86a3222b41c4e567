"""The table of metrics that console, report, comparison and tracker read."""

from __future__ import annotations

from factory.comparison.estimate import COMPARED
from factory.metric_keys import METRICS, Better, metric
from factory.tracking.headline import LINES


def test_every_key_has_one_meaning() -> None:
    """No key and no label with its unit is there twice."""
    assert len({known.key for known in METRICS}) == len(METRICS)
    assert len({(known.label, known.unit) for known in METRICS}) == len(METRICS)


def test_what_is_compared_and_tracked_is_in_the_table() -> None:
    """Comparison and tracker show no metric that is labelled from its key, and costs have a direction."""
    assert {known.key for known in COMPARED} | set(LINES) <= {known.key for known in METRICS}
    assert all(known.better is Better.LOWER for known in COMPARED if known.is_energy)


def test_a_metric_of_somebody_else_is_labelled_from_its_key() -> None:
    """A loss of another learner is readable, and may be negative."""
    found = metric("loss/q_function")
    assert (found.label, found.short_label, found.is_signed) == ("Q function", "q function", True)


def test_a_metric_of_a_task_has_the_unit_of_its_name() -> None:
    """Outcomes are shares, and the end of another name is its unit."""
    found = metric("eval/outcome/off_road")
    assert (found.label, found.unit, found.better) == ("Outcome off road, evaluation", "%", Better.LOWER)
    assert metric("eval/outcome/success").better is Better.HIGHER
    lap = metric("train/lap_time_s")
    assert (lap.label, lap.unit) == ("Lap time, training", "s")
    assert (metric("eval/error_deg").label, metric("eval/error_deg").unit) == ("Error, evaluation", "deg")
    assert metric("eval/spl").unit == "" and metric("factory/odd_s").unit == ""
