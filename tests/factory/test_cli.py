"""A mistake on the command line ends in one line that names it, exit status 2, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from factory import cli, config, evaluate, options
from factory.energy.sources.estimate import EstimateSource
from factory.tracking.run_ids import save_ids
from factory.training import checkpoint
from factory.training.build import make_env, make_policy
from factory.training.checkpoint import Checkpoint

ROOT = Path(__file__).parents[2]
FOOTLESS = '<mujoco><worldbody><body name="trunk"><freejoint/><geom size="0.1"/></body></worldbody></mujoco>'

options.register()

WRONG_KEYS = [
    ("foo=1", "foo=1"),
    ("learner.learning_rat=1e-3", "learner.learning_rate"),
    ("taks=cartpole_swingup", "did you mean task"),
    ("task.foo.bar=1", "task.foo.bar=1"),
    ("task=cartpole_swingup task.gait_hz=2", "task.gait_hz=2"),
    ("+foo=1", "+foo=1"),
    ("++learner.foo=1", "++learner.foo=1"),
    ("~learner", "~learner"),
    ("hydra.foo=1", "hydra.foo=1"),
]
WRONG_TYPES = [
    ("num_envs=many", "num_envs=many"),
    ("num_envs=1.5", "num_envs=1.5"),
    ("num_envs=", "num_envs="),
    ("learner.gamma=high", "learner.gamma=high"),
    ("runtime.register_model=maybe", "runtime.register_model=maybe"),
    ("policy.actor_hidden=12", "policy.actor_hidden=12"),
    ("policy.actor_hidden=[a]", "policy.actor_hidden=[a]"),
    ("learner.num_steps=null", "learner.num_steps=null"),
    ("energy.estimate.calibration=3", "energy.estimate.calibration=3"),
    ("energy.estimate.calibration={{watts:3}}", "energy.estimate.calibration={watts:3}: no such key"),
]
UNKNOWN_CHOICES = [
    ("task=pendulum", "task=pendulum: did you mean gym/inverted_pendulum"),
    ("physics=bullet", "physics=bullet: choose one of auto, mujoco, none, warp"),
    ("policy=cnn", "policy=cnn: choose one of mlp"),
    ("learner=dqn", "learner=dqn: choose one of ppo"),
    ("tracking=wandb", "tracking=wandb: choose one of jsonl, mlflow, null"),
    ("energy=solar", "energy=solar: choose one of auto"),
    ("runtime=fast", "runtime=fast: choose one of default"),
    ("experiment=nope", "experiment=nope: choose one of"),
    ("task=null", "task=null: choose one of"),
    ("learner=3", "learner=3: choose one of ppo"),
    ("physics.name=bullet", "physics=bullet: unknown engine; choose one of auto, mujoco, none, warp"),
    ("policy.activation=swish", "policy.activation=swish: choose one of"),
    ("policy.precision=float16", "policy.precision=float16: choose one of float32, tf32, bfloat16"),
    ("policy.precision=tf32", "policy.precision=tf32: a GPU has it; use device=cuda, or float32 or bfloat16"),
    ("learner.schedule=cosine", "learner.schedule=cosine: choose one of"),
    ("runtime.renderer=blender", "runtime.renderer=blender: choose one of"),
    ("energy.sync=always", "energy.sync=always: choose"),
    ("device=tpu", "device=tpu: choose cpu or cuda"),
    ("task.name=foo", "task.name=foo"),
    ("task.id=factory/CartpoleSwingup-v0", "task.id=factory/CartpoleSwingup-v0"),
]
OUT_OF_RANGE = [
    ("num_envs=0", "num_envs=0"),
    ("total_steps=0", "total_steps=0"),
    ("checkpoint_every=0", "checkpoint_every=0"),
    ("seed=-1", "seed=-1"),
    ("task.max_episode_steps=0", "task.max_episode_steps=0"),
    ("task=cartpole_swingup task.reset_noise=-1", "task.reset_noise=-1.0"),
    ("task=gym/hopper task.reset_noise_scale=-1", "task.reset_noise_scale=-1.0"),
    ("task=gym/hopper task.frame_skip=0", "task.frame_skip=0"),
    ("task=gym/ant task.healthy_z_range=[1,0.2]", "task.healthy_z_range=[1.0, 0.2]: give the lower bound"),
    ("task=gym/ant task.ctrl_cost_weight=nan", "task.ctrl_cost_weight=nan"),
    ("physics.num_threads=-1", "physics.num_threads=-1"),
    ("physics=warp physics.njmax=-1", "physics.njmax=-1"),
    ("policy.init_std=0", "policy.init_std=0.0"),
    ("policy.critic_hidden=[]", "policy.critic_hidden=[]"),
    ("learner.gamma=1.5", "learner.gamma=1.5"),
    ("learner.learning_rate=nan", "learner.learning_rate=nan"),
    ("energy.min_window_s=0", "energy.min_window_s=0.0"),
    ("energy.site.pue=0.5", "energy.site.pue=0.5"),
    ("energy.estimate.calibration.relative_u=0.02", "energy.estimate.calibration.max_w_per_core=0.0"),
    ("energy.estimate.calibration={{origin:plug}}", "energy.estimate.calibration.max_w_per_core=0.0"),
    ("runtime.eval_episodes=-1", "runtime.eval_episodes=-1"),
    ("runtime.eval_episodes=0", "runtime.eval_episodes=0: must be at least 1"),
    ("runtime.video_s=-1", "runtime.video_s=-1.0"),
    ("runtime.keep_checkpoints=0", "runtime.keep_checkpoints=0"),
]
CONTRADICTIONS = [
    ("learner.num_minibatches=100000 num_envs=4", "learner.num_minibatches=100000"),
    ("learner.min_learning_rate=1 learner.max_learning_rate=0.1", "learner.max_learning_rate=0.1"),
    ("physics.nconmax=8", "physics.nconmax=8: only physics=warp has it"),
    ("physics=none", "physics=none: this task runs with physics=mujoco or physics=warp; leave it out"),
    ("physics=warp physics.num_threads=2", "physics.num_threads=2: only physics=mujoco has it"),
    ("energy.source=replay", "energy.replay_path=''"),
    ("task=cartpole_swingup robot=menagerie:unitree_go1", "robot=menagerie:unitree_go1"),
    ("task=quadruped_velocity task.robot=menagerie:unitree_go2", "task.robot=menagerie:unitree_go2"),
    ("env_id=CartPole-v1", "env_id=CartPole-v1: add task=gymnasium"),
    ("runtime.require_cuda_graphs=true", "runtime.require_cuda_graphs=True: CUDA graphs need device=cuda"),
    ("task=cartpole_swingup env_id=CartPole-v1", "env_id=CartPole-v1: add task=gymnasium"),
    ("task=gymnasium", "env_id=: task=gymnasium needs one, such as env_id=CartPole-v1"),
    (
        "task=gymnasium env_id=CartPole-v1 task.env_id=Pendulum-v1",
        "task.env_id=Pendulum-v1: choose it by env_id=<id>",
    ),
    ("task=gymnasium env_id=CartPole-v1 robot=menagerie:unitree_go1", "robot=menagerie:unitree_go1"),
    ("stop_at_steps=2000 total_steps=1000", "stop_at_steps=2000: must be in [0, total_steps=1000]"),
    ("stop_at_steps=-1", "stop_at_steps=-1: must be in [0, total_steps="),
    ("-m resume=last seed=0,1", "resume"),
    ("seed=0,1", "seed: several values given; add -m"),
]
NOT_HERE = [
    ("robot=spot", "robot=menagerie:spot: unknown quadruped; choose one of unitree_go1"),
    ("task=gym/ant robot=spot", "robot=menagerie:spot"),
    ("task=gym/ant robot=file:missing.xml", "robot=file:missing.xml: no such file"),
    ("task=gym/ant robot=file:{given}/garbage.xml", "garbage.xml"),
    ("task=gym/ant task.main_body=tail", "task.main_body=tail: the robot has no such body; choose one of"),
    ("robot=menagerie:nope", "robot=menagerie:nope: unknown quadruped; choose one of"),
    ("robot=file:missing.xml", "robot=file:missing.xml"),
    ("robot=file:{given}/footless.xml", "footless.xml: a base with four legs"),
    ("robot=file:{given}/garbage.xml", "garbage.xml"),
    ("resume=nowhere", "resume=nowhere"),
    ("resume={given}", "no checkpoint there"),
    ("resume=last", "resume=last: no run with a checkpoint under"),
    ("resume={given}/damaged", "cannot be read"),
    ("resume={given}/cartpole num_envs=8", "num_envs=8: the run to resume has 4"),
    (
        "resume={given}/cartpole task=quadruped_velocity",
        "task.name=quadruped_velocity: the run to resume has",
    ),
    ("resume={given}/cartpole policy.actor_hidden=[8]", "policy.actor_hidden=[8]: the run to resume has"),
    ("resume={given}/gpu device=cpu", "device=cpu: the run to resume has cuda; leave it as it is"),
    (
        "resume={given}/ant task.exclude_current_positions_from_observation=false",
        "checkpoint 96 does not fit (policy: ",
    ),
    ("start_from=nowhere", "start_from=nowhere: no such run folder, and no run of that MLflow id under"),
    ("start_from=last", "start_from=last: no run with a checkpoint under"),
    ("start_from={given}", "no checkpoint there"),
    ("start_from={given}/damaged task=cartpole_swingup", "damaged/checkpoints/96 cannot be read"),
    (
        "start_from={given}/ant task=cartpole_swingup policy.actor_hidden=[4] policy.critic_hidden=[4]",
        "checkpoint 96 does not fit (no weights of its policy",
    ),
    ("-m start_from={given}/cartpole,{given}/no task=cartpole_swingup", "/no: no such run folder"),
    ("resume={given}/cartpole start_from={given}/ant", "a resumed run has its own weights; leave it out"),
    ("output_root={given}/file", "output_root="),
    ("output_root={given}/file/below", "is a file; give a folder"),
    ("output_root=", "output_root=: name a folder"),
    ("hydra.run.dir={given}/file", "hydra.run.dir="),
    ("energy=rapl energy.rapl_root=/nonexistent", "energy.source=rapl: rapl is not available"),
    ("energy.source=replay energy.replay_path=none.csv", "energy.replay_path=none.csv"),
    ("tracking.uri=ftp://ledger", "tracking.uri=ftp://ledger"),
    ("tracking.uri=./mlruns", "tracking.uri=./mlruns"),
]
FOREIGN = [
    ("env_id=Nope-v1", "env_id=Nope-v1: Environment `Nope` doesn't exist"),
    (
        "env_id=CartPole-v9",
        "env_id=CartPole-v9: Environment version `v9` for environment `CartPole` doesn't exist",
    ),
    ("env_id=not_installed:X-v0", "env_id=not_installed:X-v0: No module named 'not_installed'"),
    ("env_id=highway_env:nope-v0", "env_id=highway_env:nope-v0: Environment `nope` doesn't exist"),
    ("env_id=Blackjack-v1 task.kwargs={{colour:red}}", "env_id=Blackjack-v1: "),
    ("env_id=Pendulum-v1 task.kwargs={{weight:1}}", "unexpected keyword argument 'weight'"),
    ("env_id=Pendulum-v1 task.kwargs.weight=1", "unexpected keyword argument 'weight'"),
    (
        "env_id=Pendulum-v1 task.vectorization=vector_entry_point",
        "env_id=Pendulum-v1: it has no batched version",
    ),
    (
        "env_id=Pendulum-v1 task.vectorization=threads",
        "task.vectorization=threads: choose one of auto, sync, async",
    ),
    ("env_id=Pendulum-v1 task.max_episode_steps=-1", "task.max_episode_steps=-1"),
    (
        "env_id=odd_worlds:odd/Blind-v0",
        "odd/Blind-v0: its observations hold pictures, uint8 of shape (8, 8, 3)",
    ),
    (
        "env_id=odd_worlds:odd/Odd-v0 task.kwargs.event=no_start",
        "odd/Odd-v0: a world failed: the key is lost",
    ),
    (
        "env_id=odd_worlds:odd/Blind-v0 task.vectorization=async",
        "odd/Blind-v0: its observations hold pictures",
    ),
    ("env_id=odd_worlds:odd/ManyHanded-v0", "odd/ManyHanded-v0: its actions are MultiDiscrete"),
]
MALFORMED = [
    ("num_envs", "num_envs: give key=value"),
    ("=3", "=3: give key=value"),
    ("num_envs=[", "num_envs=[: give key=value"),
    ("--bogus", "--bogus"),
    ("--config-name=other", "hydra.searchpath"),
    ("--cfg job foo=1", "foo=1"),
    ("--cfg everything", "everything"),
    ("-m seed=0,-1", "seed=-1"),
    ("-m num_envs=4,8 learner.gamma=0.9,2", "learner.gamma=2"),
    ("-m task=cartpole_swingup,pendulum", "task=pendulum"),
    ("-m seed=interval(0,1)", "seed=interval(0,1)"),
]
MISTAKES = [
    *WRONG_KEYS,
    *WRONG_TYPES,
    *UNKNOWN_CHOICES,
    *OUT_OF_RANGE,
    *CONTRADICTIONS,
    *NOT_HERE,
    *MALFORMED,
]
MISTAKES += [(f"task=gymnasium {arguments}", expected) for arguments, expected in FOREIGN]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what mistakes refer to: odd robots, a file, a run, and a damaged run."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "footless.xml").write_text(FOOTLESS)
    (folder / "garbage.xml").write_text("<mujoco><nonsense/></mujoco>")
    (folder / "file").write_text("")
    for name in ("cartpole", "damaged"):
        save_run(folder / name)
    save_run(folder / "gpu", device="cuda")
    save_run(folder / "ant", task="gym/ant")
    (folder / "damaged" / "checkpoints" / "last" / "policy.safetensors").write_bytes(b"half of a fi")
    return folder


def save_run(
    run_dir: Path, *, task: str = "cartpole_swingup", device: str = "cpu", precision: str = "float32"
) -> None:
    """Write what a started run leaves: its overrides, and a checkpoint with its configuration, policy and
    worlds.
    """
    overrides = [f"task={task}", "num_envs=4", "learner.num_minibatches=2"]
    (run_dir / ".hydra").mkdir(parents=True)
    (run_dir / ".hydra" / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    cfg = cli.compose_config(overrides)[0]
    env = make_env(cfg, num_envs=4)
    tensors = {"policy": make_policy(cfg, env).state_dict(), "env": env.unwrapped.state_dict()}
    plain = config.to_plain(cfg) | {"device": device}
    plain["policy"]["precision"] = precision
    taken = Checkpoint(env_steps=96, tensors=tensors, state={"mlflow_run_id": None}, config=plain)
    checkpoint.save(taken, run_dir / "checkpoints", keep=1)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at once, not minutes later, where a mistake is let through."""
    from factory import train

    monkeypatch.setattr(
        train,
        "train_from_command_line",
        lambda *_: pytest.fail("the mistake was let through: training started"),
    )


def assert_one_line(captured: str, expected: str) -> None:
    assert captured.count("\n") == 1, captured
    assert captured.startswith("error: ")
    assert expected in captured
    assert "Traceback" not in captured


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=[arguments for arguments, _ in MISTAKES])
def test_mistake_is_one_line_and_writes_nothing(
    command_line, capfd: pytest.CaptureFixture[str], given: Path, arguments: str, expected: str
) -> None:
    """One line on stderr with key and value, nothing on stdout, status 2, and the folder as empty as
    before.
    """
    before = sorted(given.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        command_line(*arguments.format(given=given).split())
    out, err = capfd.readouterr()
    assert stopped.value.code == 2
    assert_one_line(err, expected)
    assert out == ""
    assert not list(Path.cwd().iterdir())
    assert sorted(given.rglob("*")) == before


@pytest.mark.usefixtures("no_training")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none(command_line, capfd: pytest.CaptureFixture[str]) -> None:
    """`device=cuda` without a GPU says what to use instead."""
    with pytest.raises(SystemExit):
        command_line("device=cuda")
    assert_one_line(capfd.readouterr().err, "device=cuda: torch sees no CUDA device here; use device=cpu")


@pytest.mark.usefixtures("no_training")
def test_counter_that_is_not_there_is_refused(
    command_line, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`energy=nvml` without NVIDIA's library says what is missing."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SystemExit):
        command_line("energy=nvml")
    assert_one_line(capfd.readouterr().err, "energy.source=nvml: nvml is not available")


@pytest.mark.usefixtures("no_training")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused(
    command_line, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An output folder that cannot be written is named."""
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(SystemExit):
        command_line("output_root=locked/below")
    assert_one_line(capfd.readouterr().err, "is not writable")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "run: must be given"),
        (["episodes=8"], "run: must be given"),
        (["run=nonexistent"], "run=nonexistent"),
        (["run=last"], "run=last: no run with a checkpoint under"),
        (["run={given}"], "no checkpoint there"),
        (["run={given}/damaged"], "run={given}/damaged: {given}/damaged/checkpoints/96 cannot be read"),
        (["run={given}/cartpole", "device=tpu"], "device=tpu: choose cpu or cuda"),
        (["run=last", "episodes=-1"], "episodes=-1: must be at least 1"),
        (["run=last", "episodes=0"], "episodes=0: must be at least 1"),
        (["run=last", "episodes=many"], "episodes"),
        (["run=last", "episods=3"], "episods"),
        (["last"], "last: give key=value"),
        (["run=[last"], "run=[last: give key=value"),
        (["--verbose"], "--verbose: give key=value"),
    ],
    ids=str,
)
def test_evaluation_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    given: Path,
    arguments: list[str],
    expected: str,
) -> None:
    """`python -m factory.evaluate` treats mistakes like training does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["factory-evaluate", *(argument.format(given=given) for argument in arguments)]
    )
    with pytest.raises(SystemExit) as stopped:
        evaluate.main()
    assert stopped.value.code == 2
    assert_one_line(capfd.readouterr().err, expected.format(given=given))
    assert not list(tmp_path.iterdir())


def test_run_is_found_by_an_id_that_came_late(tmp_path: Path) -> None:
    """Checkpoints from before a slow store answered have no MLflow run id, but the run folder has."""
    save_run(tmp_path / "run")
    save_ids(tmp_path / "run", uri="sqlite:///x.db", run_id="abc", run_key="k")
    assert cli.find_run("abc", key="run", output_root=tmp_path) == tmp_path / "run"
    with pytest.raises(ValueError, match="no such run folder"):
        cli.find_run("k", key="run", output_root=tmp_path)


def test_policy_of_a_gpu_is_evaluated_on_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`device=cpu` is put over what the run was trained on, and the precision only a GPU has with it."""
    save_run(tmp_path / "run", device="cuda", precision="tf32")
    monkeypatch.setattr(
        sys, "argv", ["factory-evaluate", f"run={tmp_path / 'run'}", "device=cpu", "episodes=2"]
    )
    evaluate.main()
    assert "eval/return_mean" in (tmp_path / "run" / "evaluation.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["task=pendulum"], ["-m", "num_envs=4,0"]], ids=str)
def test_mistake_in_a_process_of_its_own(tmp_path: Path, arguments: list[str]) -> None:
    """The same holds for `python -m factory.train` as a user types it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "factory.train", *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert_one_line(done.stderr, arguments[-1].replace("4,", ""))
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


def test_null_is_an_option_like_others(command_line, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tracking=null` and `energy=null` choose the options of that name, which Hydra would take for
    nothing.
    """
    from factory import train

    seen = []
    state = SimpleNamespace(is_interrupted=False, metrics={})
    monkeypatch.setattr(train, "train_from_command_line", lambda cfg, _: seen.append(cfg) or state)
    command_line("task=cartpole_swingup", "tracking=null", "energy=null")
    assert (seen[0].tracking.kind, seen[0].energy.source) == ("null", "null")


@pytest.mark.parametrize(
    "given",
    [
        [
            "energy.estimate.calibration="
            "{idle_w_per_core:5.19,max_w_per_core:11.56,relative_u:0.018,origin:'a plug'}"
        ],
        [
            f"energy.estimate.calibration.{setting}"
            for setting in (
                "idle_w_per_core=5.19",
                "max_w_per_core=11.56",
                "relative_u=0.018",
                "origin='a plug'",
            )
        ],
    ],
    ids=["whole", "key by key"],
)
def test_calibration_may_be_given_on_the_command_line(
    command_line, monkeypatch: pytest.MonkeyPatch, given: list[str]
) -> None:
    """A calibration is taken as a whole or key by key, without a file of one's own."""
    from factory import train

    seen = []
    state = SimpleNamespace(is_interrupted=False, metrics={})
    monkeypatch.setattr(train, "train_from_command_line", lambda cfg, _: seen.append(cfg) or state)
    command_line("task=cartpole_swingup", "energy=estimate", *given)
    calibration = seen[0].energy.estimate.calibration
    assert (calibration.idle_w_per_core, calibration.origin) == (5.19, "a plug")
    assert EstimateSource(seen[0].energy.estimate).open().tier == "calibrated"


@pytest.mark.parametrize("flag", ["--help", "--hydra-help", "--info", "--cfg=job", "--shell-completion"])
def test_flags_that_only_print_have_no_job(flag: str) -> None:
    """A process beside rank 0 learns so from the checked arguments, and its job from others."""
    arguments = cli.validate_arguments(["task=cartpole_swingup", "tracking=null", flag])
    assert cli.worker_job(arguments) is None
    job = cli.worker_job([argument for argument in arguments if argument != flag])
    assert job is not None and job.tracking.kind == "null"


def test_flags_may_stand_anywhere(command_line, capfd: pytest.CaptureFixture[str]) -> None:
    """`--cfg job` after an override prints the composed configuration."""
    command_line("num_envs=8", "--cfg", "job", "task=cartpole_swingup")
    shown = yaml.safe_load(capfd.readouterr().out)
    assert (shown["num_envs"], shown["task"]["name"]) == (8, "cartpole_swingup")


def test_configs_of_ones_own_are_found(command_line, capfd: pytest.CaptureFixture[str], given: Path) -> None:
    """A folder named in `hydra.searchpath` adds options, also for an installed package."""
    folder = given / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\nnum_envs: 12\n")
    command_line("--cfg", "job", f"hydra.searchpath=[file://{folder.parent}]", "experiment=mine")
    assert yaml.safe_load(capfd.readouterr().out)["num_envs"] == 12
