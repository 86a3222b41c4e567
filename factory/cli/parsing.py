"""Arguments of the small commands: `key=value` into a dataclass, and options that are refused in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import factory
from factory import plugins
from factory.cli import spelling
from factory.cli.errors import fail
from factory.config import check_values
from factory.options import types_of

T = TypeVar("T")


class OneLineParser(argparse.ArgumentParser):
    """Parses options, and reports mistakes as all commands of this project do."""

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        fail(ValueError(f"{message}; {self.prog} --help lists the arguments"))


def prints_version() -> bool:
    """Print name and version of the package if `--version` is given, and return whether it is."""
    if "--version" not in sys.argv[1:]:
        return False
    print(f"robot-factory {factory.__version__}")
    return True


def prints_info(usage: str | None) -> bool:
    """Print usage or version if `--help` or `--version` is given, and return whether one is."""
    if set(sys.argv[1:]) & {"--help", "-h"}:
        print(usage)
        return True
    return prints_version()


def parse(schema: type[T], arguments: Sequence[str]) -> T:
    """Return the dataclass `schema` with `key=value` arguments put in; plug-ins are loaded if it has them.

    Raises:
        ValueError, OmegaConfBaseException: an argument is no `key=value`, or its key or value is wrong.
    """
    known = [field.name for field in fields(schema)]  # type: ignore[arg-type]
    template = OmegaConf.structured(schema)
    arguments = spelling.join_flags(arguments, known)
    wrong = [argument for argument in arguments if "=" not in argument or argument.startswith("-")]
    if wrong:
        raise ValueError(f"{wrong[0]}: give key=value; --help lists the keys")
    arguments, files = plugins.resolve_overrides(arguments)
    for argument in arguments:
        key = argument.partition("=")[0].partition(".")[0]
        if key not in known:
            near = spelling.near_keys(key, known)
            if near:
                hint = f"did you mean {' or '.join(near)}?"
            else:
                hint = f"choose one of {', '.join(known)}"
            raise ValueError(f"{argument}: no such key; {hint}")
        _require_inner_key(argument, template)
    arguments = spelling.fit_values(arguments, types_of(template))
    merged: Any = template
    for argument in arguments:
        try:
            merged = OmegaConf.merge(merged, _value_given(argument))
        except OmegaConfBaseException as error:
            # Most of OmegaConf's errors name the key.
            if error.full_key:
                raise
            raise ValueError(f"{argument}: {str(error).partition(chr(10))[0]}") from error
    missing = sorted(str(key) for key in OmegaConf.missing_keys(merged))
    if missing:
        raise ValueError(f"{missing[0]}: must be given; --help says how")
    if "plugins" in known:
        # The dataclass may refuse the name of a component that nobody has registered.
        plugins.load(files)
    check_values(merged)
    return OmegaConf.to_object(merged)  # type: ignore[return-value]


def _require_inner_key(argument: str, template: DictConfig) -> None:
    """Raise ValueError if an argument replaces a group of settings by one value."""
    key, _, value = argument.partition("=")
    group = template.get(key)
    if isinstance(group, DictConfig) and not value.startswith("{"):
        keys = ", ".join(f"{key}.{inner}" for inner in map(str, group))
        raise ValueError(f"{argument}: a group of settings; give one of {keys}")


def _value_given(argument: str) -> DictConfig:
    try:
        return OmegaConf.from_dotlist([argument])
    except yaml.YAMLError as error:
        raise ValueError(f"{argument}: give key=value, with special characters in quotes") from error
