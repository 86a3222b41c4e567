"""Bad input to any command ends in one line that names it and exit status 2, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import refusals
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from factory import bench, compare, doctor, evaluate, options, tasks, train

options.register()

COMMANDS: dict[str, Any] = {
    "train": train,
    "evaluate": evaluate,
    "bench": bench,
    "compare": compare,
    "doctor": doctor,
    "tasks": tasks,
}
LONG = "a" * 5000

# Arguments, and the part of them that the line has to show. FOLDER is one with odd files.
TRAIN = [
    ("tsk=gym/ant", "task"),
    ("Task=gym/ant", "Task"),
    ("task=", "task="),
    ("task=gym/ants", "gym/ant"),
    ("task=../../etc/passwd", "task=../../etc/passwd"),
    ("task={a:1}", "task={a:1}"),
    ("t\u00e4sk=gym/ant", "t\u00e4sk"),
    ("\u202eseed=1", "seed"),
    ("seed=1\x1b[31m", "seed"),
    ("seed=\u0661", "seed"),
    ("==", "give key=value"),
    ("seed=''", "seed"),
    ("seed=1e400", "seed"),
    ("seed=99999999999999999999999999", "seed"),
    ("seed=null", "seed"),
    ("seed=range(3)", "seed"),
    ("seed=glob(*)", "seed"),
    ("seed='1", "seed"),
    ('seed="1', "seed"),
    ("seed=1]", "seed"),
    ("seed={1", "seed"),
    ("seed=${oc.env:HOME}", "seed"),
    ("seed=${nope}", "nope"),
    ("seed=${", "seed"),
    ("seed=${seed}", "seed"),
    ("seed=???", "seed"),
    ("stop_at_steps=1e12", "stop_at_steps"),
    ("task.step_timeout_s=-1", "task.step_timeout_s"),
    ("profile.watts=-5", "profile.watts"),
    ("profile.watts=60 energy=null", "profile.watts"),
    ("profile=nope", "profile"),
    ("physics.num_threads=1e9", "physics.num_threads"),
    ("runtime.torch_threads=1e9", "runtime.torch_threads"),
    ("policy.actor_hidden=[1000000000000]", "policy.actor_hidden"),
    ("learner.num_steps=1e15", "learner.num_steps"),
    ("policy.actor_hidden=[{a:1}]", "policy.actor_hidden"),
    ("task.randomization.friction=[[1],2]", "task.randomization.friction"),
    ("energy.idle_s=1e300", "energy.idle_s"),
    ("energy.min_window_s=1e300", "energy.min_window_s"),
    ("energy.rapl_root=", "energy.rapl_root"),
    ("energy.source=replay energy.replay_path=FOLDER", "energy.replay_path"),
    ("energy.source=replay energy.replay_path=FOLDER/bytes", "energy.replay_path"),
    ("tracking.uri=http://", "tracking.uri"),
    ("tracking.uri=http://localhost:99999", "tracking.uri"),
    ("tracking.uri=sqlite:////proc/nope/x.db", "tracking.uri"),
    ("resume=/proc/self/mem", "resume"),
    (f"resume={LONG}", "resume"),
    ("resume=a,b", "resume"),
    ("resume=${oc.env:HOME}", "resume"),
    ("start_from=[a]", "start_from"),
    ("output_root=/proc/nope", "output_root"),
    ("output_root=/dev/null", "output_root"),
    ("plugins=[FOLDER/fails.py]", "fails.py"),
    ("plugins=[", "plugins"),
    ("robot=file:FOLDER", "robot"),
    ("robot=file:FOLDER/bytes", "robot"),
    ("robot=file:/dev/zero", "robot"),
    ("task=gymnasium env_id=:", "env_id"),
    ("task=gymnasium env_id=os:system", "env_id"),
    ("task=gymnasium env_id=Pendulum-v1 task.wrappers=[nope:X]", "task.wrappers"),
    ("task=gymnasium env_id=Pendulum-v1 task.wrappers=[:]", "task.wrappers"),
    ("task=gymnasium env_id=Pendulum-v1 task.kwargs=3", "task.kwargs"),
    ("task.randomization.friction=[inf,inf]", "task.randomization.friction"),
    ("task.rewards=null", "task.rewards"),
    ("task.rewards.height=nan", "task.rewards.height"),
    ("lr=1e-3", "did you mean learner.learning_rate"),
    ("runtime.video_s=inf", "runtime.video_s"),
    ("policy.init_std=inf", "policy.init_std"),
    ("task.timestep_s=1e9", "task.timestep_s"),
    ("--cfg", "cfg"),
    ("--resolve", "--resolve"),
    ("--cfg job --package=nope", "--package=nope"),
    ("--seed", "--seed"),
    ("hydra.run.dir=", "hydra.run.dir"),
    ("hydra.run.dir=/proc/x", "hydra.run.dir"),
    ("hydra.sweep.dir=/proc/x -m seed=0,1", "hydra.sweep.dir"),
    ("hydra/launcher=nope", "launcher=nope"),
    ("hydra.searchpath=[nope]", "hydra.searchpath"),
    ("hydra.mode=NOPE", "hydra.mode"),
    ("~seed=0", "~seed"),
    ("task@x=gym/ant", "task@x"),
    ("task..x=1", "task..x"),
]
EVALUATE = [
    ("run=", "run"),
    ("run=null", "run"),
    ("run=???", "run"),
    ("run=[a]", "run"),
    ("run={a:1}", "run"),
    ("run=${nope}", "run"),
    ("run=/dev/null", "run"),
    (f"run={LONG}", "run"),
    ("run=a\x1b[31mb", "run"),
    ("run='last", "run"),
    ("rnu=last", "did you mean run"),
    ("run=last episodes=-3", "episodes"),
    ("run=last episodes=nan", "episodes"),
    ("run=last episodes=0", "episodes"),
    ("run=last seed=2147483648", "seed"),
    ("run=last seed=-1", "seed"),
    ("run=last video=perhaps", "video"),
    ("run=last output_root=null", "output_root"),
    ("run=last output_root=FOLDER/file", "run=last"),
    ("run=last plugins=[nope.py]", "plugins"),
    ("run=last plugins=[FOLDER/fails.py]", "fails.py"),
    ("run=last task=gym/ant", "task=gym/ant"),
    ("run=last task.nope=1", "task.nope"),
    ("run=last task.wrappers=5", "task.wrappers"),
    ("run=last task.wrappers={a:1}", "task.wrappers"),
    ("run=last --cfg job", "--cfg"),
    ("--run", "--run"),
    ("=1", "=1"),
    ("run=last robot=[a", "robot"),
]
BENCH = [
    ("task=nope", "task=nope"),
    ("num_envs=", "num_envs"),
    ("num_envs=64,-1", "num_envs"),
    ("num_envs=64,x", "num_envs"),
    ("num_envs=[64", "num_envs"),
    ("num_envs={a:1}", "num_envs"),
    ("seconds=0", "seconds"),
    ("seconds=nan", "seconds"),
    ("seconds=1e300", "seconds"),
    ("repeats=1.5", "repeats"),
    ("out=FOLDER", "out"),
    ("out=/proc/nope/x.json", "out"),
    (f"out={LONG}", LONG),
    ("track=maybe", "track"),
    ("track=true output_root=/proc/nope", "output_root"),
    ("resume=last", "resume"),
    ("seed=0,1", "seed"),
    ("-m seed=0,1", "-m"),
    ("learner.gama=1", "learner.gamma"),
    ("task=gymnasium env_id=nope", "env_id"),
    ("start_from=nowhere", "start_from"),
    ("task=gym/ant,gym/hopper", "task"),
]
COMPARE = [
    ("", "run"),
    ("run=", "run"),
    ("run=nowhere", "run=nowhere"),
    ("run=nowhere run=nowhere", "nowhere"),
    ("run=last", "run=last"),
    ("run=last-sweep", "run=last-sweep"),
    ("run=FOLDER", "run="),
    ("run=FOLDER/file", "run="),
    (f"run={LONG}", "run"),
    ("run=last query=x", "query"),
    ("qery=x", "did you mean query"),
    ("query=x", "uri="),
    ("query=[a", "query"),
    ("experiment=nope uri=ftp://x", "uri=ftp"),
    ("experiment=nope uri=http://", "uri=http"),
    ("experiment=nope uri=sqlite:////nope/x.db", "uri=sqlite"),
    ("force=maybe run=last", "force"),
    ("run=nowhere -m", "-m"),
    ("last", "last"),
]
DOCTOR = [
    ("seconds=-1", "seconds"),
    ("seconds=nan", "seconds"),
    ("seconds=1e9", "seconds"),
    ("seconds=0 --crosscheck", "seconds"),
    ("device=tpu", "device"),
    ("output_root=", "output_root"),
    ("energy=rapl", "energy=rapl"),
    ("energy.source=solar", "energy.source"),
    ("energy.idle_s=nan", "energy.idle_s"),
    ("energy.site.pue=inf", "energy.site.pue"),
    ("energy.nope=1", "energy.nope"),
    ("tracking=3", "tracking=3"),
    ("tracking.kind=wandb", "tracking.kind"),
    ("tracking.uri=ftp://x", "tracking.uri"),
    ("plugins=[FOLDER/fails.py]", "fails.py"),
    ("--jsn", "--jsn"),
    ("json=maybe", "json"),
    ("secnds=3", "did you mean seconds"),
]
TASKS = [
    ("plugins=nope.py", "plugins"),
    ("plugins=[FOLDER]", "plugins"),
    ("plugins=[FOLDER/syntax.py]", "syntax.py"),
    ("plugins=[/dev/zero]", "plugins"),
    ("plugins=null", "plugins"),
    ("plugins=[", "plugins"),
    ("plugin=[a.py]", "did you mean plugins"),
    ("--all", "--all"),
    ("ant", "ant"),
]
WRITTEN = {
    "train": TRAIN,
    "evaluate": EVALUATE,
    "bench": BENCH,
    "compare": COMPARE,
    "doctor": DOCTOR,
    "tasks": TASKS,
}
CASES = [(command, *case) for command, cases in WRITTEN.items() for case in cases]


@pytest.fixture(autouse=True, scope="module")
def nothing_starts() -> Iterator[None]:
    """Fail at once where a mistake is let through."""
    from factory.benchmark import throughput

    def start(*_: object, **__: object) -> None:
        raise AssertionError("the mistake was let through")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "train_from_command_line", start)
        patch.setattr(throughput, "bench", start)
        patch.setattr(doctor, "diagnose", start)
        patch.setattr(tasks, "describe", start)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an empty file, one that is no text, and plug-ins that cannot be loaded."""
    odd = tmp_path_factory.mktemp("odd")
    (odd / "file").write_text("")
    (odd / "bytes").write_bytes(b"\xff\xfe\x00")
    (odd / "syntax.py").write_text("def (:\n")
    (odd / "fails.py").write_text("raise RuntimeError('two\\nlines')\n")
    return odd


def refused(command: str, arguments: list[str]) -> str:
    """Run a command and return the line with which it refuses its arguments."""
    return refusals.refused(COMMANDS[command].main, arguments)


@pytest.mark.parametrize(
    ("command", "arguments", "named"), CASES, ids=[f"{case[0]} {ascii(case[1])[:60]}" for case in CASES]
)
def test_written_mistake(command: str, arguments: str, named: str, folder: Path) -> None:
    """The line names key or value, for every command."""
    line = refused(command, arguments.replace("FOLDER", str(folder)).split())
    assert named[:3000] in line


TRAIN_TYPES = {key: kind for key, kind in options.types().items() if kind is not object}
SMALL_TYPES = {
    "evaluate": options.types_of(OmegaConf.structured(evaluate.EvaluateConfig)),
    "bench": options.types_of(OmegaConf.structured(bench.BenchConfig)),
    "doctor": options.types_of(OmegaConf.structured(doctor.DoctorConfig)),
    "compare": options.types_of(OmegaConf.structured(compare.CompareConfig)),
}
REQUIRED = {"evaluate": ["run=last"]}
_WORD = st.text(st.characters(categories=["Ll", "Lu", "Lo"]), min_size=1, max_size=8).map("x".__add__)
_MAPPING = _WORD.map("{{{}: 1}}".format)
_LIST = st.lists(st.integers(), min_size=1, max_size=3).map(str)
_FRACTION = st.floats(min_value=-1e6, max_value=1e6).filter(lambda x: not x.is_integer()).map(str)
_NOT_FINITE = st.sampled_from(["nan", "inf", "-inf"])
OUT_OF_TYPE = {
    int: _WORD | _MAPPING | _LIST | _FRACTION | _NOT_FINITE,
    float: _WORD | _MAPPING | _LIST | _NOT_FINITE,
    bool: _WORD | _MAPPING | _LIST,
    list: _WORD | _MAPPING | _FRACTION,
    str: _MAPPING | _LIST,
}


@st.composite
def mistakes(draw: st.DrawFn, types: dict[str, type]) -> tuple[str, str]:
    """Draw a key and a value that its type does not take."""
    key = draw(st.sampled_from(sorted(key for key, kind in types.items() if kind in OUT_OF_TYPE)))
    return key, draw(OUT_OF_TYPE[types[key]])


@pytest.mark.slow
@settings(max_examples=20)
@given(mistake=mistakes(TRAIN_TYPES))
def test_value_out_of_type_for_training(mistake: tuple[str, str]) -> None:
    """Whatever the key, its name is in the line."""
    key, value = mistake
    line = refused("train", [f"{key}={value}"])
    assert key in line


@pytest.mark.parametrize("command", list(SMALL_TYPES))
def test_value_out_of_type_for_a_small_command(command: str) -> None:
    """The commands that Hydra does not read take no other values either."""

    @settings(max_examples=15)
    @given(mistake=mistakes(SMALL_TYPES[command]))
    def check(mistake: tuple[str, str]) -> None:
        key, value = mistake
        assert key in refused(command, [*REQUIRED.get(command, ()), f"{key}={value}"])

    check()


@settings(max_examples=15)
@given(text=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30))
@pytest.mark.parametrize("command", ["evaluate", "compare", "doctor", "tasks"])
def test_any_text_that_is_no_argument(command: str, text: str) -> None:
    """Text without a key is refused, whatever characters are in it."""
    refused(command, [f"?{text}"])
