"""Faults of the kind: a run folder that is damaged, moved, or made by a stranger."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from promises import ACCEPTED_OR_REFUSED, FINISHED, REFUSED, Fault, finished_with
from workshop import ITERATION, Seen, Workshop, newest_run

RESUME = f"total_steps={10 * ITERATION}"


def _last(run_dir: Path) -> Path:
    return (run_dir / "checkpoints" / "last").resolve()


def _truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x10
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _remove(path: Path) -> None:
    path.unlink()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut short": _truncate,
    "one bit flipped": _flip,
    "empty": _empty,
    "missing": _remove,
}


def _resume_damaged(do: Callable[[Path], None], name: str, shop: Workshop, folder: Path) -> Seen:
    run_dir = shop.copy(folder)
    do(_last(run_dir) / name)
    return shop.run("train", f"resume={run_dir}", RESUME, folder=folder)


def _evaluate_damaged(do: Callable[[Path], None], shop: Workshop, folder: Path) -> Seen:
    run_dir = shop.copy(folder)
    do(_last(run_dir) / "policy.safetensors")
    return shop.run("evaluate", f"run={run_dir}", folder=folder)


def _resume_all_damaged(do: Callable[[Path], None], shop: Workshop, folder: Path) -> Seen:
    run_dir = shop.copy(folder)
    for path in (run_dir / "checkpoints").glob("[0-9]*/policy.safetensors"):
        do(path)
    return shop.run("train", f"resume={run_dir}", RESUME, folder=folder)


def _damaged() -> Iterator[Fault]:
    """Damage a file of the newest checkpoint, where the one before is whole; then all of them."""
    older_one = finished_with("checkpoint")
    for damage, do in DAMAGES.items():
        for name in ("policy.safetensors", "env.safetensors", "state.json"):
            words = f"resume, newest {name} {damage}"
            inject = partial(_resume_damaged, do, name)
            yield Fault(kind="checkpoint", name=words, promise=older_one, inject=inject)
        words = f"evaluate, newest policy.safetensors {damage}"
        yield Fault(kind="checkpoint", name=words, promise=older_one, inject=partial(_evaluate_damaged, do))
        words = f"resume, every checkpoint's policy {damage}"
        yield Fault(kind="checkpoint", name=words, promise=REFUSED, inject=partial(_resume_all_damaged, do))


MARKER = "stranger-was-here"


def _hostile_texts() -> dict[str, tuple[str, str]]:
    """Return name -> file in the run folder, and what a stranger puts in the place of it."""
    code = f"!!python/object/apply:os.system ['touch {MARKER}']"
    bomb = "\n".join(
        ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    )
    return {
        "YAML that calls os.system": ("config.yaml", code),
        "YAML alias bomb": ("config.yaml", bomb),
        "YAML of one word": ("config.yaml", "hello"),
        "YAML nested 5000 deep": ("config.yaml", "[" * 5000 + "]" * 5000),
        "empty config.yaml": ("config.yaml", ""),
        "binary config.yaml": ("config.yaml", "\x00\x01\x02"),
        "JSON nested 100000 deep": ("checkpoints/last/state.json", "[" * 100_000 + "]" * 100_000),
        "JSON list as state": ("checkpoints/last/state.json", "[1, 2]"),
        "NaN as state": ("checkpoints/last/state.json", '{"env_steps": NaN}'),
        "config.json of one word": ("checkpoints/last/config.json", '"hello"'),
        "_target_ in the configuration": (
            "checkpoints/last/config.json",
            json.dumps({"task": {"_target_": "os.system", "command": f"touch {MARKER}"}}),
        ),
        "interpolation in the configuration": (
            "checkpoints/last/config.json",
            json.dumps({"seed": "${oc.env:HOME}", "output_root": "${oc.env:HOME}"}),
        ),
    }


def _read_hostile(path: str, text: str, module: str, shop: Workshop, folder: Path) -> Seen:
    run_dir = shop.copy(folder)
    (run_dir / path).write_text(text)
    arguments = [f"run={run_dir}"]
    if module == "train":
        arguments = [f"resume={run_dir}", RESUME]
    seen = shop.run(module, *arguments, folder=folder, limit_s=60.0)
    ran = list(folder.rglob(MARKER))
    return dataclasses.replace(seen, lost="a stranger's code ran") if ran else seen


def _hostile() -> Iterator[Fault]:
    for name, (path, text) in _hostile_texts().items():
        for module, verb in (("train", "resume"), ("evaluate", "evaluate")):
            inject = partial(_read_hostile, path, text, module)
            yield Fault(kind="stranger", name=f"{verb}: {name}", promise=ACCEPTED_OR_REFUSED, inject=inject)

    def pipe(shop: Workshop, folder: Path) -> Seen:
        run_dir = shop.copy(folder)
        (run_dir / "config.yaml").unlink()
        os.mkfifo(run_dir / "config.yaml")
        return shop.run("evaluate", f"run={run_dir}", folder=folder, limit_s=60.0)

    def device(shop: Workshop, folder: Path) -> Seen:
        run_dir = shop.copy(folder)
        (run_dir / "config.yaml").unlink()
        (run_dir / "config.yaml").symlink_to("/dev/zero")
        return shop.run("evaluate", f"run={run_dir}", folder=folder, limit_s=60.0)

    yield Fault(
        kind="stranger", name="evaluate: config.yaml is a FIFO", promise=ACCEPTED_OR_REFUSED, inject=pipe
    )
    yield Fault(
        kind="stranger", name="evaluate: config.yaml is /dev/zero", promise=ACCEPTED_OR_REFUSED, inject=device
    )


NAMES = (
    "it's",
    "a b",
    "µ-Läufe",
    "a,b=c",
    "${oc.env:HOME}",
    "a{b}[c]",
    "new\nline",
    "-dash",
    "%41",
    "a;b&c",
    "*",
)


def _go_on_elsewhere(move: Callable[[Path, Path], object], shop: Workshop, folder: Path) -> Seen:
    source = shop.copy(folder)
    target = folder / "moved" / source.name
    target.parent.mkdir()
    move(source, target)
    return _resume_and_evaluate(f"{target}", shop, folder)


def _go_on_below(name: str, shop: Workshop, folder: Path) -> Seen:
    below = folder / name
    below.mkdir()
    source = shop.copy(below)
    seen = _resume_and_evaluate("last", shop, below)
    assert newest_run(below) == source
    return seen


def _resume_and_evaluate(run: str, shop: Workshop, folder: Path) -> Seen:
    seen = shop.run("train", f"resume={run}", RESUME, folder=folder)
    if seen.status:
        return seen
    return shop.run("evaluate", f"run={run}", folder=folder)


def _moved() -> Iterator[Fault]:
    moves: dict[str, Callable[[Path, Path], object]] = {
        "moved": shutil.move,
        "copied with links followed (cp -rL, scp -r)": shutil.copytree,
        "behind a symbolic link": lambda source, target: target.symlink_to(source),
    }
    for name, move in moves.items():
        inject = partial(_go_on_elsewhere, move)
        yield Fault(kind="folder", name=f"run folder {name}", promise=FINISHED, inject=inject)
    for name in NAMES:
        inject = partial(_go_on_below, name)
        yield Fault(kind="folder", name=f"working folder {name!r}", promise=FINISHED, inject=inject)


def faults() -> Iterator[Fault]:
    """Yield damaged, hostile and moved folders."""
    yield from _damaged()
    yield from _hostile()
    yield from _moved()
