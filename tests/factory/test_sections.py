"""Settings of a section from arguments."""

from __future__ import annotations

import pytest

from factory import sections
from factory.floor.plan import Settings
from factory.operator.config import OperatorConfig


def test_each_section_takes_its_own_arguments():
    given = ["floor.dwell_s=3", "operator.dwell_s=7", "floor.quota_cores.ann=1.5", "floor.ramp_w_per_s=2"]

    floor = sections.parse(Settings, "floor", given, page="docs/budget.md")
    operator = sections.parse(OperatorConfig, "operator", given, page="docs/operator.md")

    assert floor == Settings(dwell_s=3.0, quota_cores={"ann": 1.5}, ramp_w_per_s=2.0)
    assert operator == OperatorConfig(dwell_s=7.0)


@pytest.mark.parametrize(
    "override",
    [
        "floor.dwell_s=-1",
        "floor.dwell_s=nan",
        "floor.dwell_s=soon",
        "floor.dwell_s=",
        "floor.dwell_s={a: 1}",
        "floor.preemptions_per_hour=1.5",
        "floor.reserve_share=true",
        "floor.quota_cores=3",
        "floor.quota_cores.ann=-1",
        "floor.=3",
    ],
)
def test_mistakes_of_the_floor_name_the_key(override: str):
    with pytest.raises(ValueError, match=override.partition("=")[0]) as caught:
        sections.parse(Settings, "floor", [override], page="docs/budget.md")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "override",
    ["operator.dwell_s=-1", "operator.allow=[x]", "operator.nothing=1", "operator.decider=oracle"],
)
def test_mistakes_of_the_operator_name_the_key(override: str):
    with pytest.raises(ValueError, match=override.partition("=")[0]) as caught:
        sections.parse(OperatorConfig, "operator", [override], page="docs/operator.md")
    assert "\n" not in str(caught.value)


def test_a_slip_is_answered_with_the_near_name():
    with pytest.raises(ValueError, match=r"floor\.dwel_s: unknown; expected dwell_s; see docs/budget\.md"):
        sections.parse(Settings, "floor", ["floor.dwel_s=1"], page="docs/budget.md")


@pytest.mark.parametrize("override", ["seed=1", "operator", "floor.dwell_s", "operatordwell_s=1", "grid.x=1"])
def test_arguments_of_no_section_are_refused(override: str):
    with pytest.raises(ValueError, match=r"expected floor\.<key>=<value> or operator\.<key>=<value>"):
        sections.check([override], ("floor", "operator"))
