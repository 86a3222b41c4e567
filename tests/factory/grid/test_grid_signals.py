"""Signals of the grid: what files say, what holds when, what a line costs, and when background lines run."""

from __future__ import annotations

import csv
import json
import os
from math import inf
from pathlib import Path
from typing import Any

import pytest
from floor_plant import Plant, PlantLine

from factory.floor.budget_commands import read_budget
from factory.floor.command_line import main
from factory.floor.lines import Line, LineState, Needs
from factory.floor.plan import Bar, PowerLimit, Verb
from factory.floor.records import Sample
from factory.floor.store import Store
from factory.grid import costs, imports, rules, signals
from factory.grid.costs import Cost
from factory.grid.rules import Rule
from factory.grid.signals import Kind, Point, Reading, Signal
from factory.grid.times import duration_s, text_of

NOW = 1_795_700_000.0
HOUR = 3600.0
DAY = Path(__file__).parents[3] / "experiments" / "012-grid" / "day.csv"
"""Germany, 28 June 2024."""


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """Return the store of a new floor."""
    with Store(tmp_path / "floor", create=True) as store:
        yield store


def put(tmp_path: Path, content: Any, *, name: str = "signal") -> Path:
    """Write a file, JSON unless it is a text, as of the present."""
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    os.utime(path, (NOW, NOW))
    return path


def take(store: Store, path: Path, *, is_forecast: bool = False) -> str:
    """Import a file."""
    return imports.import_file(store, path, now=NOW, is_forecast=is_forecast)


def test_values_hold_in_half_open_intervals_and_gaps_are_known() -> None:
    """A gap has the last value and its age; a forecast fills it; nothing is known before the first value."""
    signal = Signal([Point(0.0, 10.0, 1.0, 0.0), Point(20.0, 30.0, 3.0, 0.0)])
    assert signal.at(-1.0) is None
    assert signal.at(0.0) == Reading(1.0)
    assert signal.at(15.0) == Reading(1.0, stale_s=5.0)
    assert signal.at(20.0) == Reading(3.0)
    assert signal.at(31.0) == Reading(3.0, stale_s=1.0)
    guessed = signal.joined([Point(10.0, 40.0, 2.0, 5.0, is_forecast=True)])
    assert guessed.at(15.0) == Reading(2.0, is_forecast=True)
    assert guessed.at(25.0) == Reading(3.0)
    assert guessed.at(50.0) == Reading(3.0, stale_s=20.0)


def test_newer_values_replace_older_ones_in_whatever_order() -> None:
    """The time of publication decides; a value that is told again changes nothing."""
    old = Point(0.0, 10.0, 1.0, 100.0)
    new = Point(0.0, 10.0, 2.0, 200.0)
    assert Signal([old]).joined([new]).at(5.0) == Signal([new]).joined([old]).at(5.0) == Reading(2.0)
    assert Signal([new]).joined([Point(0.0, 10.0, 2.0, 300.0)]).points == (new,)
    # An overlapping interval of a newer message counts where it holds.
    assert Signal([new]).joined([Point(5.0, 7.0, 9.0, 300.0)]).at(6.0) == Reading(9.0)


PRICES = "time_utc,usd_per_kwh\n2026-11-26T14:00Z,0.05\n2026-11-26T15:00Z,-0.01\n2026-11-26T16:00Z,0.20\n"
MAPS = (
    "Datetime (UTC),Country,Carbon intensity gCO2eq/kWh (direct),Carbon intensity gCO2eq/kWh (Life cycle)"
    "\n2026-11-26 14:00:00,FR,20,35\n2026-11-26 15:00:00,FR,,\n2026-11-26 16:00:00,FR,30,45.5\n"
)
GRIDSTATUS = (
    "Interval Start,Interval End,Location,LMP\n2026-11-26 08:00:00-06:00,2026-11-26 09:00:00-06:00,HB,31.5\n"
)
WATTTIME = {
    "meta": {"region": "CAISO_NORTH", "signal_type": "co2_moer", "units": "lbs_co2_per_mwh"},
    "data": [
        {"point_time": "2026-11-26T14:00:00+00:00", "value": 1000.0},
        {"point_time": "2026-11-26T14:05:00+00:00", "value": 500.0},
    ],
}
AT = 1_795_701_600.0
"""14:00 UTC of that day."""


def test_tables_are_read_by_their_headings(store: Store, tmp_path: Path) -> None:
    """Prices, Electricity Maps (the life cycle before the direct column) and gridstatus, in their units."""
    assert text_of(AT) == "2026-11-26T14:00:00Z"
    assert "3 of 3 values of price are new" in take(store, put(tmp_path, PRICES))
    price = signals.read(store, Kind.PRICE)
    assert [price.at(AT + hours * HOUR) for hours in (0, 1, 2)] == [
        Reading(0.05),
        Reading(-0.01),
        Reading(0.2),
    ]
    assert "0 of 3" in take(store, put(tmp_path, PRICES))
    assert "Life cycle" in take(store, put(tmp_path, MAPS))
    carbon = signals.read(store, Kind.CARBON_AVERAGE)
    # The empty cell leaves the value before it in force.
    assert [carbon.at(AT + hours * HOUR) for hours in (0, 1, 2)] == [Reading(35), Reading(35), Reading(45.5)]
    with Store(tmp_path / "other", create=True) as other:
        take(other, put(tmp_path, GRIDSTATUS), is_forecast=True)
        assert signals.read(other, Kind.PRICE).at(AT) == Reading(0.0315, is_forecast=True)


def test_services_are_read_in_their_units(store: Store, tmp_path: Path) -> None:
    """WattTime is marginal and in pounds, Electricity Maps average and in grams; they are never mixed."""
    take(store, put(tmp_path, WATTTIME))
    marginal = signals.read(store, Kind.CARBON_MARGINAL).at(AT)
    assert marginal is not None
    assert marginal.value == pytest.approx(453.59237)
    version = signals.version(store)
    assert "0 of 2" in take(store, put(tmp_path, WATTTIME))
    assert signals.version(store) == version
    answer = {
        "zone": "DE",
        "carbonIntensity": 302,
        "datetime": "2026-11-26T14:00:00.000Z",
        "isEstimated": True,
    }
    take(store, put(tmp_path, answer))
    assert signals.read(store, Kind.CARBON_AVERAGE).at(AT) == Reading(302)
    foretold = {"zone": "DE", "forecast": [{"carbonIntensity": 100, "datetime": "2026-11-26T18:00:00.000Z"}]}
    take(store, put(tmp_path, foretold))
    assert signals.read(store, Kind.CARBON_AVERAGE).at(AT + 4 * HOUR) == Reading(100, is_forecast=True)


def openadr(kind: str, *values: float, **changes: Any) -> dict[str, Any]:
    """Return an event with one interval of an hour for each value."""
    plain = {
        "programID": "1",
        "eventName": "test",
        "createdDateTime": "2026-11-26T13:00:00Z",
        "intervalPeriod": {"start": "2026-11-26T14:00:00Z", "duration": "PT1H"},
        "intervals": [
            {"id": place, "payloads": [{"type": kind, "values": [value]}]}
            for place, value in enumerate(values)
        ],
    }
    return plain | changes


def test_openadr_limits_levels_and_prices(store: Store, tmp_path: Path) -> None:
    """Limits in kilowatts and levels of the baseline become budget steps; prices become a signal."""
    path = put(tmp_path, openadr("IMPORT_CAPACITY_LIMIT", 0.06, 0.04))
    assert take(store, path) == "2 targets set"
    assert take(store, path) == "taken before; nothing changed"
    budget = read_budget(store)
    assert [budget.at(AT + hours * HOUR).limit_w for hours in (-0.1, 0, 1, 2)] == [inf, 60.0, 40.0, inf]
    level = openadr("SIMPLE", 2, 0, createdDateTime="2026-11-26T13:30:00Z")
    with pytest.raises(ValueError, match="no power on record"):
        take(store, put(tmp_path, level))
    store.add_sample(
        Sample(
            at=NOW, budget_w=None, power_w=80.0, joules=0.0, tokens=0, tokens_per_s=0.0, cpu_s=0.0, running=1
        )
    )
    take(store, put(tmp_path, level))
    budget = read_budget(store)
    # Level 0 lifts the older limit of the second hour.
    assert [budget.at(AT + hours * HOUR).limit_w for hours in (0, 1)] == [60.0, inf]
    units = [{"payloadType": "PRICE", "units": "MWH", "currency": "USD"}]
    take(store, put(tmp_path, openadr("PRICE", 50.0, 80.0, payloadDescriptors=units)))
    price = signals.read(store, Kind.PRICE)
    assert [price.at(AT + hours * HOUR) for hours in (0, 1)] == [Reading(0.05), Reading(0.08)]
    always = {"start": "0001-01-01T00:00:00Z", "duration": "P9999Y"}
    take(
        store, put(tmp_path, openadr("DISPATCH_SETPOINT", 0.03, intervalPeriod=always, createdDateTime=None))
    )
    assert read_budget(store).at(NOW + 1e8).limit_w == 30.0
    assert "changes nothing" in take(store, put(tmp_path, openadr("ALERT_FLEX_ALERT", 1)))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "a,b\n1,2\n",
        "time_utc,usd_per_kwh\n",
        "time_utc,usd_per_kwh\n2026-11-26T14:00Z,cheap\n",
        "time_utc,usd_per_kwh\n2026-11-26T14:00Z,nan\n",
        "time_utc,usd_per_kwh\n2026-11-26T14:00Z,0.1,0.2\n",
        "time_utc,usd_per_kwh\n2026-11-26T14:00Z,0.1\n2026-11-26T14:00Z,0.2\n",
        "time_utc,usd_per_kwh\nnoon,0.1\n",
        '"time_utc\n,usd_per_kwh\n',
        {"a": 1},
        [1, 2],
        {**WATTTIME, "meta": {"units": "kg"}},
        {**WATTTIME, "data": []},
        {**WATTTIME, "data": [{"point_time": "2026-11-26T14:00:00", "value": 1.0}]},
        {**WATTTIME, "data": [{"point_time": "2026-11-26T14:00:00Z", "value": "1"}]},
        {"zone": "DE", "carbonIntensity": -5, "datetime": "2026-11-26T14:00:00Z"},
        {"zone": "DE", "carbonIntensity": None, "datetime": "2026-11-26T14:00:00Z"},
        openadr("IMPORT_CAPACITY_LIMIT", -1.0),
        openadr("SIMPLE", 7),
        openadr(
            "IMPORT_CAPACITY_LIMIT", 1.0, intervalPeriod={"start": "2026-11-26T14:00:00Z", "duration": "1h"}
        ),
        openadr("IMPORT_CAPACITY_LIMIT", 1.0, intervalPeriod=None),
        openadr("IMPORT_CAPACITY_LIMIT"),
        openadr(
            "PRICE", 1.0, payloadDescriptors=[{"payloadType": "PRICE", "units": "KWH", "currency": "EUR"}]
        ),
        openadr("IMPORT_CAPACITY_LIMIT", 1.0, 2.0, intervalPeriod={"start": "2026-11-26T14:00:00Z"}),
    ],
)
def test_wrong_files_change_nothing(store: Store, tmp_path: Path, content: Any) -> None:
    """Each is refused in one line."""
    before = list(store.events())
    with pytest.raises(ValueError) as caught:
        take(store, put(tmp_path, content))
    assert "\n" not in str(caught.value)
    assert list(store.events()) == before


def test_durations() -> None:
    """ISO 8601, as far as grids use it."""
    assert duration_s("PT5M", key="d") == 300.0
    assert duration_s("P1DT1H", key="d") == 90_000.0
    for text in ("PT0S", "P", "5M", "PT-5M", ""):
        with pytest.raises(ValueError):
            duration_s(text, key="d")


def test_lines_pay_the_price_of_the_hour_in_which_they_ran(store: Store) -> None:
    """A kilowatt-hour at 5 and one at 20 cents, at a PUE of 1.2, cost 30 cents; grams likewise."""
    known = {"task": "cartpole_swingup", "overrides": (), "spec_hash": "h", "total_steps": 1}
    line = store.add_line(Line(id=0, name="x", needs=Needs(cores=1.0, memory_bytes=1), **known))
    line = store.move(line, LineState.STARTING, "test")
    joules = 0.0
    for price, grams in ((None, None), (0.05, 100.0), (0.20, 400.0)):
        now = {
            Kind.PRICE: price and Reading(price),
            Kind.CARBON_AVERAGE: grams and Reading(grams, stale_s=1.0),
        }
        for _ in range(10):
            costs.charge(store, store.line(line.id), now, pue=1.2)
            joules += 3.6e5
            store.update(line.id, joules=joules)
        # The last look of an hour sees all of its energy.
        costs.charge(store, store.line(line.id), now, pue=1.2)
    cost = costs.read(store, line.id)
    assert cost is not None
    assert cost.joules == pytest.approx(3 * 3.6e6)
    assert cost.usd == pytest.approx((0.05 + 0.20) * 1.2)
    assert cost.gco2e_average == pytest.approx((100.0 + 400.0) * 1.2)
    assert cost.unpriced_j == pytest.approx(3.6e6)
    assert cost.stale_j == pytest.approx(2 * 3.6e6)
    metrics = costs.metrics(cost)
    assert metrics["cost/electricity_usd"] == cost.usd
    assert metrics["carbon/average_g"] == cost.gco2e_average
    assert "carbon/marginal_g" not in metrics
    assert costs.metrics(Cost(joules=1.0, unpriced_j=1.0, uncounted_j=1.0)) == {}


def test_rule_holds_background_lines_while_electricity_is_dear_or_dirty() -> None:
    """The limit itself is too much; what is unknown or old holds nobody back."""
    rule = Rule(below_price=0.10, below_carbon=200.0, carbon=Kind.CARBON_MARGINAL)

    def reason(rule: Rule, now: dict[Kind, Reading]) -> str:
        found = rules.bar(rule, now, {kind: Signal() for kind in Kind}, at_s=0.0)
        return str((found or {}).get("reason", ""))

    cheap = {Kind.PRICE: Reading(0.09), Kind.CARBON_MARGINAL: Reading(150.0)}
    assert reason(rule, cheap) == ""
    assert "0.1 USD/kWh, runs below 0.1" in reason(rule, cheap | {Kind.PRICE: Reading(0.10)})
    assert "cleaner" in reason(rule, cheap | {Kind.CARBON_MARGINAL: Reading(300.0, is_forecast=True)})
    assert reason(rule, {Kind.PRICE: Reading(0.5, stale_s=2 * HOUR)}) == ""
    assert reason(rule, {Kind.CARBON_AVERAGE: Reading(900.0)}) == ""
    assert reason(Rule(), {Kind.PRICE: Reading(9.0)}) == ""


def test_rule_moves_background_work_into_the_cheap_and_clean_hours_of_a_recorded_day() -> None:
    """The same lines finish for less money and less carbon; none is lost, and other lines run on."""
    with DAY.open(newline="") as file:
        hours = [(float(row["usd_per_mwh"]) / 1e3, float(row["g_per_kwh"])) for row in csv.DictReader(file)]
    assert len(hours) == 24
    rule = Rule(below_price=0.08)
    spent: list[tuple[float, float]] = []
    for has_rule in (False, True):
        background = [PlantLine(id=number, watts=10.0, flex=3, work_s=50.0) for number in (2, 3)]
        plant = Plant([PlantLine(id=1, watts=10.0, flex=1, work_s=300.0), *background])
        usd = 0.0
        grams = 0.0
        for second in range(360):
            # A day passes 240 times faster than the clock.
            price, intensity = hours[second // 15]
            plant.bar = Bar()
            if has_rule:
                reading = {Kind.PRICE: Reading(price)}
                plant.bar = Bar(**(rules.bar(rule, reading, {Kind.PRICE: Signal()}, at_s=plant.now) or {}))
            plant.tick(PowerLimit())
            watts = sum(line.watts for line in background if line.state is LineState.RUNNING)
            usd += watts * price / 3.6e6
            grams += watts * intensity / 3.6e6
            if has_rule and price >= 0.08 and second % 15 > 3:
                assert watts == 0.0
        assert all(line.state is LineState.FINISHED for line in plant.lines)
        assert sum(line.done_s for line in plant.lines) == 400.0
        assert not [action for _, action in plant.log if action.line == 1 and action.verb is Verb.PAUSE]
        spent.append((usd, grams))
    (usd_before, grams_before), (usd_after, grams_after) = spent
    assert usd_after < 0.5 * usd_before
    assert grams_after < 0.5 * grams_before


def test_commands_set_rule_and_feed_and_say_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`floor grid` sets and shows; a mistake is one line and status 2."""

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["grid", *arguments, "--root", str(tmp_path / "floor")])
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out + captured.err

    assert run("rule", "--below-price", "0.08", "--below-carbon", "300", "--carbon", "marginal")[0] == 0
    assert run("feed", "hall-7", "--pue", "1.3")[0] == 0
    text = run("list")[1]
    assert "lines of flex 3 and more run below 0.08 USD/kWh and 300 gCO2e/kWh (carbon_marginal)" in text
    assert "hall-7" in text
    assert run("import", str(put(tmp_path, PRICES)))[0] == 0
    assert "no line has run" in run("costs")[1]
    for arguments in (
        ("rule", "--below-price", "cheap"),
        ("rule", "--flex", "0"),
        ("feed", "--pue", "0.5"),
        ("import", "nowhere.csv"),
        ("import", str(put(tmp_path, "a,b\n1,2\n", name="x.csv"))),
        ("listen", "--port", "99999"),
        ("outbox",),
    ):
        status, said = run(*arguments)
        assert status == 2, arguments
        assert len(said.splitlines()) == 1
