"""Projections: workloads from runs and floors, their spread, the refusal of estimates, and the page."""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from measured_runs import make_measured_floor, make_measured_run

from factory.comparison.runs import select_runs
from factory.energy.types import Tier
from factory.site import contrast, floor_workload, ledger, questions, site_file, workload
from factory.site.command_line import main
from factory.site.model import OUTPUTS, evaluate
from factory.site.projection import DISCLAIMER, Assumptions, Projection, project
from factory.site.quantities import quantiles

DESIGNED = (
    "good_policies_per_day",
    "gtokens_per_day",
    "capex_usd_per_year",
    "electricity_usd_per_year",
    "breakeven_usd_per_policy",
    "payback_years",
    "tco2e_per_year",
)
FEW = Assumptions(num_draws=4000, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with four runs, of which three are good, and a floor."""
    root = tmp_path_factory.mktemp("measured")
    for seed, value in enumerate((600.0, 550.0, 520.0, 505.0)):
        make_measured_run(root / "runs" / str(seed), seed=seed, value=value)
        bounds = {"energy/total_j_hi": 8000.0}
        make_measured_run(root / "estimated" / str(seed), seed=seed, tier="estimated", **bounds)
    make_measured_floor(root / "floor")
    return root


@pytest.fixture(scope="module")
def projection(folder: Path) -> Projection:
    """Return the projection of the four runs to a megawatt."""
    runs = select_runs([str(folder / "runs")], output_root=folder)
    return project(site_file.load("megawatt"), workload.from_runs(runs, gate=None), FEW)


def test_workload_of_runs_by_hand(projection: Projection) -> None:
    """20 W, 10 000 tokens/s, and three of four runs whose return is above 500 with 95 % confidence."""
    work = projection.workload
    assert (work.machine.power_w.value, work.machine.power_w.hi) == pytest.approx((20.0, 22.0))
    assert work.machine.tokens_per_s == pytest.approx(1e4)
    assert work.joules_per_token.value == pytest.approx(2e-3)
    assert (work.num_good, len(work.outcomes), work.tier) == (3, 4, Tier.MEASURED)
    assert "below 500" in work.outcomes[3].reason


def test_equations_by_hand(projection: Projection) -> None:
    """A megawatt at round numbers: 36 000 machines, 180 good policies a second, 10 M USD a year."""
    inputs = projection.middle_inputs() | {
        "meter_gain": 1.0,
        "outside_share": 0.25,
        "chain_efficiency": 1.0,
        "pue": 1.0,
        "fixed_overhead": 0.4,
        "reserve": 0.0,
        "spares": 0.1,
        "scheduled": 0.5,
        "maintenance": 0.0,
        "lost_s": 1e-12,
        "transfer": 1.0,
        "tokens_per_run": 1e6,
        "good_share": 1.0,
        "idle_share": 0.5,
        "capex_usd_per_w": 40.0,
        "life_years": 4.0,
        "rate": 1e-12,
        "opex_share": 0.01,
        "price_usd_per_kwh": 0.1,
        "carbon_g_per_kwh": 400.0,
        "usd_per_core_hour": 0.036,
    }
    found = evaluate(inputs, projection.workload, facility_w=1e6)
    assert found["machines"] == pytest.approx(1e6 / 25.0 * 0.9)
    assert found["good_policies_per_day"] == pytest.approx(36_000 * 1e4 * 0.5 / 1e6 * 86400.0)
    assert found["gtokens_per_day"] == pytest.approx(36_000 * 1e4 * 0.5 * 86400.0 / 1e9)
    assert found["capex_usd_per_year"] == pytest.approx(10e6)
    assert found["electricity_usd_per_year"] == pytest.approx(750.0 * 8766.0 * 0.1)
    assert found["tco2e_per_year"] == pytest.approx(750.0 * 8766.0 * 400.0 / 1e6)
    # 1e6 tokens of 1e-4 s on a core at 0.036 USD/h.
    assert found["policy_usd"] == pytest.approx(100.0 / 3600.0 * 0.036)
    cost = found["capex_usd_per_year"] + found["electricity_usd_per_year"] + 0.4e6
    assert found["cost_usd_per_year"] == pytest.approx(cost, rel=1e-9)


def test_outputs_are_consistent_in_every_draw(projection: Projection) -> None:
    """Ratios, sums and the identity of tokens and joules hold to 1e-9."""
    out = projection.outputs
    inputs = projection.inputs
    parts = out["capex_usd_per_year"] + out["electricity_usd_per_year"] + out["opex_usd_per_year"]
    assert parts == pytest.approx(out["cost_usd_per_year"], rel=1e-9)
    spent = out["breakeven_usd_per_policy"] * out["good_policies_per_day"] * 365.25
    assert spent == pytest.approx(out["cost_usd_per_year"], rel=1e-9)
    assert 1.0 / out["good_policies_per_usd"] == pytest.approx(out["breakeven_usd_per_policy"], rel=1e-9)
    assert out["good_policies_per_mw_day"] == pytest.approx(out["good_policies_per_day"], rel=1e-9)
    # IT power in service over joules a token is tokens a second.
    it_w = out["machines"] * projection.workload.machine.power_w.value * inputs["meter_gain"]
    joules_per_token = projection.workload.joules_per_token.value * inputs["meter_gain"]
    tokens_per_s = it_w / joules_per_token * out["utilisation"] * inputs["transfer"]
    assert tokens_per_s * 86400.0 / 1e9 == pytest.approx(out["gtokens_per_day"], rel=1e-9)
    assert (out["payback_years"] >= out["capex_usd"] / out["revenue_usd_per_year"] * (1 - 1e-9)).all()


@pytest.mark.parametrize("name", ["gigawatt", "megawatt"])
def test_projected_bands_are_sane(projection: Projection, name: str) -> None:
    """Medians lie where published figures lie: capital, electricity, their ratio, power of an accelerator."""
    found = project(site_file.load(name), projection.workload, FEW)
    megawatts = found.site.facility_w / 1e6
    capital = found.quantiles("capex_usd_per_year")[1] / megawatts
    electricity = found.quantiles("electricity_usd_per_year")[1] / megawatts
    assert 9e6 < capital < 19e6
    assert 0.35e6 < electricity < 1.3e6
    assert 8.0 < capital / electricity < 30.0
    kilowatts = found.site.facility_w / 1e3 / found.outputs["accelerators"]
    assert (kilowatts > 1.2).all()
    assert (kilowatts < 4.5).mean() > 0.999


def test_same_seed_gives_the_same_draws_and_another_does_not(projection: Projection) -> None:
    """Draws repeat with the seed."""
    again = project(projection.site, projection.workload, FEW)
    other = project(projection.site, projection.workload, Assumptions(num_draws=4000, seed=6))
    assert all((again.outputs[one.name] == projection.outputs[one.name]).all() for one in OUTPUTS)
    assert again.tornado == projection.tornado
    assert (other.outputs["payback_years"] != projection.outputs["payback_years"]).any()


def test_estimated_bounds_dominate_the_tornado(folder: Path, projection: Projection) -> None:
    """With joules known to a factor of four, the energy source comes first; with a counter, it does not."""
    runs = select_runs([str(folder / "estimated")], output_root=folder)
    work = workload.from_runs(runs, gate=None)
    low, typical, high = quantiles(work.quantities()[0])
    assert (typical, high) == pytest.approx((1.0, 4.0 ** (1.644854 / 1.959964)), rel=1e-5)
    found = project(projection.site, work, FEW)
    swings = {one.input: one.swing for one in found.tornado["breakeven_usd_per_policy"]}
    assert swings["meter_gain"] == pytest.approx(high / low, rel=1e-9)
    assert found.tornado["good_policies_per_day"][0].input == "meter_gain"
    assert projection.tornado["good_policies_per_day"][0].input != "meter_gain"


def test_success_and_gangs_move_the_price(projection: Projection) -> None:
    """Twice the share of good policies halves the price; gangs lose what their failure term says."""
    prices = dict(questions.by_good_share(projection))
    assert prices[0.5] == pytest.approx(2.0 * prices[1.0], rel=1e-9)
    gangs = questions.by_gang(projection)
    assert gangs[0][1] > 0.9999
    assert gangs[-1][1] == pytest.approx(1.0 - 2048 * 0.004 * 300.0 / 86400.0, rel=1e-9)
    assert gangs[-1][2] > gangs[0][2]
    grid = questions.depreciation_grid(projection)
    assert all(left > right for row in grid.values for left, right in pairwise(row))


def test_required_output_answers_the_question(projection: Projection) -> None:
    """At the price at which a draw pays back in n years, it makes what is required."""
    running = projection.outputs["electricity_usd_per_year"] + projection.outputs["opex_usd_per_year"]
    made = projection.outputs["good_policies_per_mw_day"]
    price = float(np.median((projection.outputs["capex_usd"] / 3.0 + running) / made / 365.25))
    low, required, high = questions.required_per_mw_day(projection, price_usd=price, years=3.0)
    assert low < required < high
    assert required == pytest.approx(projection.quantiles("good_policies_per_mw_day")[1], rel=0.2)
    paid = questions.payback_curve(projection, [0.0, 5.0, 1e9])
    assert paid[0] == 0.0
    assert paid[1] <= paid[2] < 1.0 or math.isfinite(projection.outputs["payback_years"].max())


def test_floor_counts_failures_and_the_worth_of_a_watt(folder: Path) -> None:
    """The node's power counts, tokens of failed lines are paid for, the second line brings 40 tokens a J."""
    work = floor_workload.from_floor(folder / "floor", gate=None)
    assert work.machine.power_w.value == pytest.approx((60 * 20.0 + 60 * 30.0) / 120.0, rel=0.01)
    assert work.machine.cpu_s_per_token == pytest.approx(1.0 / 1400.0, rel=0.01)
    assert (work.num_good, len(work.outcomes), work.boundary) == (2, 3, "node")
    first, second = work.machine.steps
    assert (first.power_w, first.tokens_per_s) == pytest.approx((20.0, 1000.0))
    assert (second.power_w, second.tokens_per_s) == pytest.approx((30.0, 1800.0))
    found = project(site_file.load("cellar"), work, FEW)
    (watt,) = questions.marginal_watts(found)
    # By the bound on which the floor holds its budget: 20 W more.
    assert (watt.num_lines, watt.next_line) == (2, pytest.approx(40.0))
    assert math.isnan(watt.faster)


def test_comparison_sees_the_same_draws(projection: Projection) -> None:
    """A site against itself is equal in every draw; dearer electricity costs more in every draw."""
    same = contrast.compare(projection, project(projection.site, projection.workload, FEW))
    assert all(found == [1.0, 1.0, 1.0] for found in same.ratios.values())
    dear = projection.site.with_values({"price_usd_per_kwh": 5.0})
    pair = contrast.compare(projection, project(dear, projection.workload, FEW))
    assert pair.ratios["cost_usd_per_year"][0] > 1.0
    assert pair.higher["cost_usd_per_year"] == 1.0
    assert pair.ratios["gtokens_per_day"] == [1.0, 1.0, 1.0]


def test_ledger_has_few_metrics_with_units(projection: Projection) -> None:
    """MLflow gets at most 60 metrics, the inputs as parameters, and the notice."""
    metrics = ledger.metrics(projection)
    assert len(metrics) <= 60
    assert metrics["site/capex_usd_per_year/q50"] == projection.quantiles("capex_usd_per_year")[1]
    assert ledger.parameters(projection)["inputs.pue"].startswith("1.45 [1.25, 1.7")
    assert DISCLAIMER in ledger.tags(projection)["mlflow.note.content"]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command and return exit status, output and errors."""
    status = 0
    try:
        main([*arguments, "mlflow=false"])
    except SystemExit as end:
        status = int(end.code or 0)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_project_writes_json_and_the_same_page_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON has the promised parts; the page repeats byte for byte, says what it is, and loads nothing."""
    origin = f"from={folder / 'runs'}"
    files = []
    for name in ("one", "two"):
        out = tmp_path / name / "site.json"
        status, text, _ = run(["project", origin, "num_draws=2000", "seed=3", f"out={out}"], capsys)
        assert status == 0
        assert DISCLAIMER in text
        assert "extrapolation factor 5e+07" in text
        files.append(out)
    content = json.loads(files[0].read_text())
    assert {"inputs", "quantiles", "tornado", "extrapolation_factor", "tier", "seed"} <= set(content)
    assert all(len(content["quantiles"][name]) == 3 for name in DESIGNED)
    assert content["tier"] == "measured"
    assert content["extrapolation_factor"] == pytest.approx(1e9 / 20.0)
    assert DISCLAIMER in content["notice"]
    pages = [path.with_suffix(".html").read_bytes() for path in files]
    assert pages[0] == pages[1]
    text = pages[0].decode()
    assert text.count(DISCLAIMER) >= 3
    assert text.count("<svg") == 4
    assert "http://" not in text
    assert "<script" not in text
    assert "How many good policies a day must a megawatt make?" in text


def test_compare_of_sites_and_of_policies(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two sites, or two workloads under one site, stand side by side."""
    out = tmp_path / "pair.json"
    few = ["num_draws=500", f"out={out}", "gate=400"]
    origin = f"from={folder / 'runs'}"
    assert run(["compare", origin, "site=gigawatt", "site=cellar", *few], capsys)[0] == 0
    content = json.loads(out.read_text())
    assert content["names"] == ["gigawatt", "cellar"]
    # Per megawatt the same machines in dearer power and worse halls make fewer policies.
    assert content["second_over_first"]["good_policies_per_mw_day"][1] < 1.0
    assert run(["compare", origin, f"against={folder / 'floor'}", "site=cellar", *few], capsys)[0] == 0
    content = json.loads(out.read_text())
    assert content["second"]["workload"]["boundary"] == "node"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give project or compare first"),
        (["projct", "from=x"], "did you mean project?"),
        (["project"], "from="),
        (["project", "from=nowhere"], "from=nowhere"),
        (["project", "from={runs}", "site=gigawat"], "did you mean gigawatt?"),
        (["project", "from={runs}", "site=gigawatt", "site=cellar"], "one at a time"),
        (["project", "from={runs}", "against={runs}"], "only compare"),
        (["compare", "from={runs}"], "give site= twice"),
        (["compare", "from={runs}", "site=gigawatt", "site=cellar", "against={runs}"], "give site= twice"),
        (["project", "from={runs}", "from={floor}"], "one floor alone"),
        (["project", "from={estimated}"], "allow_estimated=true"),
        (["project", "from={runs}", "num_draws=3"], "num_draws=3"),
        (["project", "from={runs}", "gang=0"], "gang=0"),
        (["project", "from={runs}", "policy_usd=-1"], "policy_usd=-1"),
        (["project", "from={runs}", "out=site.txt"], "out=site.txt"),
        (["project", "from={runs}", "inputs.pue=0.5"], "inputs.pue"),
        (["project", "from={runs}", "inputs.pu=1.5"], "did you mean pue?"),
        (["project", "from={runs}", "inputs.rate=high"], "inputs.rate"),
        (["project", "from={runs}", "sede=3"], "did you mean seed"),
    ],
)
def test_mistakes_are_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    """A mistake ends with status 2 and one line that names key and remedy; nothing is written."""
    monkeypatch.chdir(tmp_path)
    places = {name: str(folder / name) for name in ("runs", "floor", "estimated")}
    monkeypatch.setattr(sys, "argv", ["factory.site"])
    status, _, errors = run([argument.format(**places) for argument in arguments], capsys)
    assert status == 2
    assert message in errors
    assert len(errors.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_runs_without_energy_or_gate_are_refused(tmp_path: Path) -> None:
    """A run that was not metered, or whose task has no threshold, cannot be projected."""
    bare = make_measured_run(tmp_path / "bare", **{"energy/total_j": 0.0})
    with pytest.raises(ValueError, match="energy/total_j is missing or zero"):
        workload.from_runs(select_runs([str(bare)], output_root=tmp_path), gate=None)
    config = tmp_path / "open" / "config.yaml"
    make_measured_run(config.parent)
    config.write_text("seed: 0\ntask: {name: cartpole_swingup, return_threshold: null}\n")
    runs = select_runs([str(config.parent)], output_root=tmp_path)
    with pytest.raises(ValueError, match="give the return of a good policy"):
        workload.from_runs(runs, gate=None)
    assert workload.from_runs(runs, gate=590.0).num_good == 1
    killed = make_measured_run(tmp_path / "killed", status="failed")
    assert workload.from_runs(select_runs([str(killed)], output_root=tmp_path), gate=None).num_good == 0
