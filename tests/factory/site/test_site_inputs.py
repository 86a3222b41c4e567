"""Inputs of a site: ranges, sources, correlations, and mistakes in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from factory.site import draws, site_file
from factory.site.quantities import CountedShare, Ranged, Scale, quantiles
from factory.site.site_file import INPUTS, Site


@pytest.fixture(scope="module")
def gigawatt() -> Site:
    """Return the largest site."""
    return site_file.load("gigawatt")


@pytest.mark.parametrize("name", site_file.names())
def test_every_input_has_a_range_and_a_source(name: str) -> None:
    """The quantiles of each input are the ends of its range, and a sentence says where it comes from."""
    site = site_file.load(name)
    assert list(site.inputs) == list(INPUTS)
    for quantity in site.inputs.values():
        wanted = (quantity.low, quantity.typical, quantity.high)
        assert quantiles(quantity) == pytest.approx(wanted, rel=1e-9)
        assert len(quantity.source) > 10
        # An extreme draw stays a value that the input can have.
        assert all(map(quantity.scale.holds, quantity.at(np.array([-5.0, 5.0]))))


def test_draws_are_correlated_as_the_site_says(gigawatt: Site) -> None:
    """Capital follows the generation of hardware, and other inputs are left alone."""
    z = draws.deviates(gigawatt, [], num_draws=20_000, seed=1)
    values = draws.at(list(gigawatt.inputs.values()), z)
    together = draws.rank_correlation(values["capex_usd_per_w"], values["kw_per_accelerator"])
    apart = draws.rank_correlation(values["capex_usd_per_w"], values["rate"])
    assert together == pytest.approx(0.58, abs=0.03)
    assert apart == pytest.approx(0.0, abs=0.03)
    assert np.quantile(values["pue"], [0.05, 0.95]) == pytest.approx([1.06, 1.30], abs=0.01)


def test_another_workload_does_not_move_the_draws_of_a_site(gigawatt: Site) -> None:
    """The deviates of a site's inputs depend on the seed alone."""
    share = CountedShare(name="good_share", hits=1, trials=2, source="two runs")
    alone = draws.deviates(gigawatt, [], num_draws=10, seed=3)
    joined = draws.deviates(gigawatt, [share], num_draws=10, seed=3)
    assert all((alone[name] == joined[name]).all() for name in alone)


def test_ranks_share_ties() -> None:
    """Infinities are equal, and a constant column correlates with nothing."""
    first = np.array([1.0, 2.0, 3.0, 4.0])
    assert draws.rank_correlation(first, np.array([1.0, 5.0, np.inf, np.inf])) == pytest.approx(
        0.9487, abs=1e-4
    )
    assert draws.rank_correlation(first, np.full(4, np.inf)) == 0.0


def test_counted_share_narrows_with_the_count() -> None:
    """Two of four say less than twenty of forty; the median is a half in both."""
    few = quantiles(CountedShare(name="few", hits=2, trials=4, source="runs"))
    many = quantiles(CountedShare(name="many", hits=20, trials=40, source="runs"))
    assert few[1] == pytest.approx(0.5)
    assert few[0] < many[0] < 0.5 < many[2] < few[2]


def test_constant_input_has_one_value() -> None:
    """A number on the command line takes the place of a range."""
    site = site_file.load("megawatt").with_values({"life_years": 3, "rate": [0.05, 0.06, 0.08]})
    assert quantiles(site.inputs["life_years"]) == (3.0, 3.0, 3.0)
    assert quantiles(site.inputs["rate"]) == pytest.approx((0.05, 0.06, 0.08))
    assert Ranged(name="x", low=1, typical=1, high=1, unit="", source="", scale=Scale.POSITIVE).at(
        np.array([9.0])
    ) == pytest.approx(1.0)


def test_site_of_ones_own_builds_on_another(tmp_path: Path) -> None:
    """A file names what differs; the rest is that of the site it is like."""
    path = tmp_path / "mine.yaml"
    change = {"pue": {"range": [1.02, 1.03, 1.05], "source": "measured in our hall"}}
    path.write_text(yaml.safe_dump({"like": "megawatt", "facility_w": 5e6, "inputs": change}))
    site = site_file.load(str(path))
    assert site.name == "mine"
    assert site.facility_w == 5e6
    assert site.inputs["pue"].high == pytest.approx(1.05)
    assert site.inputs["price_usd_per_kwh"] == site_file.load("megawatt").inputs["price_usd_per_kwh"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"like": "gigawat"}, "did you mean gigawatt?"),
        ({"like": "gigawatt", "facility_w": -1}, "facility_w=-1: must be a power"),
        ({"like": "gigawatt", "facility_w": "1e6 W"}, "facility_w=1e6 W"),
        ({"like": "gigawatt", "colour": 3}, "colour"),
        ({"facility_w": 1e6}, "missing; or name a site it is `like`"),
        ({"like": "gigawatt", "inputs": {"pue": 1.2}}, "inputs.pue=1.2: write range and source"),
        ({"like": "gigawatt", "inputs": {"pues": {}}}, "did you mean pue?"),
        ({"like": "gigawatt", "inputs": {"pue": {"range": [0.9, 1.1, 1.2], "source": "x"}}}, "above 1"),
        ({"like": "gigawatt", "inputs": {"rate": {"range": [3, 2, 1], "source": "x"}}}, "rising"),
        ({"like": "gigawatt", "inputs": {"rate": {"range": [1, 2], "source": "x"}}}, "[low, typical, high]"),
        ({"like": "gigawatt", "inputs": {"rate": {"range": [0.1, 0.2, 0.3], "source": ""}}}, "where"),
        ({"like": "gigawatt", "inputs": [1]}, "another shape"),
        ({"like": "gigawatt", "correlations": [["pue", "rate"]]}, "[input, input, number]"),
        ({"like": "gigawatt", "correlations": [["pue", "pue", 0.1]]}, "two different inputs"),
        ({"like": "gigawatt", "correlations": [["pue", "rate", 1.0]]}, "between -1 and 1"),
        (
            {
                "like": "gigawatt",
                "correlations": [["pue", "rate", 0.9], ["pue", "spares", 0.9], ["rate", "spares", -0.9]],
            },
            "contradict one another",
        ),
        ([1, 2], "write keys"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, content: object, message: str) -> None:
    """A wrong file is refused by the key and the remedy, in one line."""
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError) as caught:
        site_file.load(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_file_of_a_stranger_names_no_other_file(tmp_path: Path) -> None:
    """`like` takes the sites of the package alone."""
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump({"like": str(tmp_path / "one.yaml")}))
    with pytest.raises(ValueError, match="no such site"):
        site_file.load(str(path))
