"""Bad input to floors, grids, sites, suites, baselines and tasks: one line, status 2, nothing written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from factory import evaluate, options, train
from factory.floor import command_line as floor
from factory.site import command_line as site

options.register()

LONG = "a" * 300
DIGITS = "9" * 5000
"""A number that Python refuses to read."""

# Arguments, and the part of them that the line has to show. FOLDER is one with odd files.
FLOOR = [
    ("run operator.decider=oracle", "operator.decider"),
    ("run operator.allow=[nope]", "operator.allow"),
    ("run operator.allow=3", "operator.allow"),
    ("run operator.dwell_s=nan", "operator.dwell_s"),
    ("run operator.cure_s=-1", "operator.cure_s"),
    ("run operator.actions_per_hour=1e9", "operator.actions_per_hour"),
    ("run operator.breaker=0", "operator.breaker"),
    ("run operator.nope=1", "operator.nope"),
    ("run operator.detect.nope=1", "operator.detect.nope"),
    ("run operator.detect=3", "operator.detect"),
    ("run operator.=", "operator."),
    ("run watts=60", "watts=60"),
    ("run --operator maybe", "--operator"),
    ("run --tick nan", "--tick"),
    ("run --cores inf", "--cores"),
    ("run --watts 1e400", "--watts"),
    ("approve", "ID"),
    ("approve x", "ID"),
    ("approve 99999999999999999999999", "no floor"),
    ("operator nope", "nope"),
    ("operator", "no floor"),
    ("why 99999999999999999999999", "no floor"),
    ("sweep status 1e3", "no floor"),
    ("sweep cancel 1 2", "one sweep"),
    ("sweep asha task=traffic task.rule_drivers=8,9", "task.rule_drivers"),
    (f"submit seed=0 --name {LONG}", "--name"),
    (f"submit seed=0 --owner {LONG}", "--owner"),
    ("submit seed=0 --name \x1b[31m", "--name"),
    ("submit plugins=[nope.py]", "plugins"),
    ("submit hydra.searchpath=[file:///tmp]", "hydra.searchpath"),
    ("submit task=traffic num_envs=12", "num_envs"),
    ("submit seed=0 --root /dev/null/x", "--root"),
    ("report --shift 1e9h", "--shift"),
    ("budget import FOLDER", "FOLDER"),
    ("budget import /dev/zero", "zero"),
    ("budget set 1e400", "watts"),
    ("grid import nowhere.json", "nowhere.json"),
    ("grid import FOLDER", "FOLDER"),
    ("grid import FOLDER/file", "file"),
    ("grid import FOLDER/bytes", "bytes"),
    ("grid import FOLDER/list.json", "list.json"),
    ("grid import FOLDER/deep.json", "deep.json"),
    ("grid import FOLDER/event.json", "load_constraint.value"),
    ("grid import /dev/zero", "zero"),
    ("grid rule --below-price cheap", "--below-price"),
    ("grid rule --below-price nan", "--below-price"),
    ("grid rule --below-carbon 1e9", "--below-carbon"),
    ("grid rule --flex 0", "--flex"),
    ("grid rule --carbon green", "--carbon"),
    (f"grid feed {LONG}", "feed"),
    ("grid feed a\x1b[31m", "feed"),
    ("grid feed x --pue 0.5", "--pue"),
    ("grid feed x --pue nan", "--pue"),
    ("grid listen --port 99999", "--port"),
    ("grid listen --port -1", "--port"),
    ("grid listen --port http", "--port"),
    ("grid costs --log --uri ftp://x", "no floor"),
    ("grid outbox", "no floor"),
    ("grid nope", "nope"),
    ("--root", "name a command"),
    (f"status --root {10 * LONG}", "--root"),
    ("status --root a\0b", "--root"),
    ("submit seed=0 --root a\0b", "--root"),
    ("submit seed=0 --deadline 2020-01-01T00:00Z", "has passed"),
    ("submit seed=0 --deadline=", "--deadline"),
    ("submit seed=0 --cores inf", "4096"),
    (f"submit seed=0 --name {300 * LONG}", "--name"),
    ("submit seed=range(0,100000000)", "10,000 jobs"),
    ("submit seed=0,1 total_steps=range(1,9000)", "total_steps=range(1,9000)"),
    (f"submit seed={DIGITS}", "seed=999"),
    (f"run floor.ageing_s={DIGITS}", "floor.ageing_s=999"),
    ("run floor.ageing_s={a:", "floor.ageing_s={a:"),
    ("run --watts 0", "--watts=0"),
    ("report --shift=", "--shift"),
    (f"sweep status {DIGITS}", "no floor"),
    ("score out=/proc/nope/x.json", "out=/proc/nope"),
    (f"score live={DIGITS}", "live=999"),
    ("profile nope", "--calibrate"),
    ("profile --rounds 99999999", "--rounds"),
    ("profile --iterations 1", "--iterations"),
    ("profile --watts inf", "--watts"),
]
SITE = [
    ("", "give project or compare"),
    ("projct from=floor", "did you mean project"),
    ("project", "from"),
    ("project from=", "from"),
    ("project from=floor", "no floor in outputs/floor"),
    ("project from=nowhere", "from=nowhere"),
    ("project from=/dev/zero", "from=/dev/zero"),
    ("project from=floor site=gigawat", "did you mean gigawatt"),
    ("project from=floor site=../../etc/passwd", "site=../../etc/passwd"),
    ("project from=floor site=FOLDER/bytes.yaml", "bytes.yaml"),
    ("project from=floor site=FOLDER/tag.yaml", "tag.yaml"),
    ("project from=floor site=FOLDER/alias.yaml", "alias.yaml"),
    ("project from=floor site=FOLDER/odd.yaml", "facility_w"),
    ("project from=floor site=", "site"),
    ("project from=floor site=cellar site=gigawatt", "one at a time"),
    ("project from=floor against=floor", "against"),
    ("project from=floor gate=nan", "gate"),
    ("project from=floor gate=good", "gate"),
    ("project from=floor gang=0", "gang"),
    ("project from=floor gang=1e9", "gang"),
    ("project from=floor policy_usd=0", "policy_usd"),
    ("project from=floor policy_usd=inf", "policy_usd"),
    ("project from=floor num_draws=99", "num_draws"),
    ("project from=floor num_draws=1e12", "num_draws"),
    (f"project from=floor num_draws={DIGITS}", "num_draws=999"),
    ("project from=floor seed=-1", "seed"),
    ("project from=floor out=site.txt", "out"),
    ("project from=floor out=.json", "out"),
    ("project from=floor allow_estimated=perhaps", "allow_estimated"),
    ("project from=floor inputs=3", "inputs"),
    ("project from=floor inputs.pue=0.5", "inputs.pue"),
    ("project from=floor inputs.pue=nan", "inputs.pue"),
    ("project from=floor inputs.pue=true", "inputs.pue"),
    ("project from=floor inputs.pue=[1.1,1.2]", "inputs.pue"),
    ("project from=floor inputs.pue=[1.3,1.2,1.1]", "inputs.pue"),
    ("project from=floor inputs.pues=1.2", "did you mean pue"),
    ("project from=floor nope=1", "nope"),
    ("compare from=floor", "compare"),
    ("compare from=floor site=cellar site=gigawatt site=megawatt", "compare"),
]
EVALUATE = [
    ("suite=amr-v2 baseline=zero", "suite=amr-v2"),
    ("suite= run=last", "suite"),
    ("suite=amr-v1", "suite=amr-v1"),
    ("suite=amr-v1 run=last baseline=zero", "suite=amr-v1"),
    ("suite=amr-v1,traffic-v1 baseline=zero", "suite=amr-v1,traffic-v1"),
    ("suite=amr-v1 baseline=zero split=train", "split=train"),
    ("suite=amr-v1 baseline=zero seed=-1", "seed"),
    ("suite=amr-v1 baseline=zero device=tpu", "device"),
    ("suite=amr-v1 baseline=zero options=3", "options"),
    ("suite=amr-v1 baseline=zero episodes=4", "episodes"),
    ("suite=amr-v1 baseline=zero out=x.csv", "out=x.csv"),
    ("suite=amr-v1 baseline=zero out=/proc/nope/x.json", "out=/proc/nope"),
    ("suite=amr-v1 baseline=zero out=FOLDER/folder.json", "is a folder"),
    (f"suite=amr-v1 baseline=zero out={LONG}.json", "give a shorter name"),
    ("suite=amr-v1 run=nowhere", "run=nowhere"),
    ("task=cartpole_swingup baseline=zero out=/proc/nope/x.json", "out=/proc/nope"),
    ("task=cartpole_swingup baseline=zero video=x.avi", "video=x.avi"),
    ("task=cartpole_swingup baseline=zero episodes=0", "episodes"),
    ("task=cartpole_swingup baseline=zero seed=-1", "seed"),
    ("task=cartpole_swingup baseline=", "baseline"),
    ("task=gym/ants baseline=zero", "gym/ant"),
]
TRAIN = [
    ("task=car_park task.curriculum_share=1.5", "task.curriculum_share"),
    ("task=car_park task.randomization.latency_s=[0,1]", "task.randomization.latency_s"),
    ("task=car_track task.randomization.friction=[0,1]", "task.randomization.friction"),
    ("task=traffic task.maps=nope", "task.maps"),
    ("task=traffic task.rule_drivers=8", "task.rule_drivers"),
    ("task=traffic num_envs=12", "num_envs"),
    ("task=amr_navigate task.episodes=nope", "task.episodes"),
    ("policy.set_count=3 policy.set_hidden=[8]", "policy.set_size"),
]
WRITTEN: dict[Callable[..., Any], list[tuple[str, str]]] = {
    floor.main: FLOOR,
    site.main: SITE,
    evaluate.main: EVALUATE,
    train.main: TRAIN,
}
CASES = [(main, *case) for main, cases in WRITTEN.items() for case in cases]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with odd files."""
    odd = tmp_path_factory.mktemp("odd")
    target = '{"interval": {}, "load_constraint": {"unit": "watt", "value": 1%s}}' % ("0" * 400)
    head = '"specversion": "1.0.2", "id": "a", "source": "b", "time": "2026-11-26T14:00:00Z"'
    texts = {
        "file": "",
        "list.json": "[1, 2]",
        "deep.json": "[" * 100_000,
        "event.json": f'{{{head}, "type": "grid.loadtarget.set.v1", "data": {{"targets": [{target}]}}}}',
        "tag.yaml": "facility_w: !!python/object/apply:os.system [exit 1]\n",
        "alias.yaml": "like: &a gigawatt\nintent: *a\n",
        "odd.yaml": "like: gigawatt\nfacility_w: true\n",
    }
    for name, text in texts.items():
        (odd / name).write_text(text)
    for name in ("bytes", "bytes.yaml"):
        (odd / name).write_bytes(b"\xff\xfe\x00")
    os.mkdir(odd / "folder.json")
    return odd


@pytest.mark.parametrize(
    ("main", "arguments", "named"),
    CASES,
    ids=[f"{case[0].__module__} {ascii(case[1])[:60]}" for case in CASES],
)
def test_written_mistake(main: Callable[..., Any], arguments: str, named: str, folder: Path) -> None:
    """The line names key or value, for every command."""
    line = refused(main, arguments.replace("FOLDER", str(folder)).split())
    assert named.replace("FOLDER", str(folder)) in line
