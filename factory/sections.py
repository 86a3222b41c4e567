"""Settings from `section.key=value` arguments, for commands that compose no training job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from factory.cli import spelling

Schema = TypeVar("Schema", bound=Any)


def parse(schema: type[Schema], section: str, overrides: Sequence[str], *, page: str) -> Schema:
    """Return the settings of a section that arguments ask for; arguments of other sections are left alone.

    Args:
        schema: Dataclass of the settings; it checks its values itself.
        section: Name before the first dot.
        overrides: Arguments, such as `operator.dwell_s=5`.
        page: Documentation that lists the settings.

    Raises:
        ValueError: A key is unknown, or a value is malformed or out of its range.
    """
    own = [override for override in overrides if override.startswith(f"{section}.")]
    spelling.check_numbers(own)
    texts = [override.removeprefix(f"{section}.") for override in own]
    known = [setting.name for setting in fields(schema)]
    for text in texts:
        name = text.partition("=")[0].partition(".")[0]
        if name not in known:
            near = spelling.near_keys(name, known) or known
            raise ValueError(f"{section}.{name}: unknown; expected {' or '.join(near)}; see {page}")
    try:
        given = OmegaConf.from_dotlist(texts)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{' '.join(own)}: give key=value, with special characters in quotes") from error
    try:
        defaults = OmegaConf.structured(schema)
        OmegaConf.set_readonly(
            defaults, False
        )  # a frozen dataclass is read-only, also for what is merged here
        found = OmegaConf.to_object(OmegaConf.merge(defaults, given))
    except OmegaConfBaseException as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{' '.join(own)}: {reason}; see {page}") from error
    assert isinstance(found, schema)
    return found


def check(overrides: Sequence[str], sections: Sequence[str]) -> None:
    """Raise ValueError if an argument belongs to none of the sections."""
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or key.partition(".")[0] not in sections or "." not in key:
            known = " or ".join(f"{section}.<key>=<value>" for section in sections)
            raise ValueError(f"{override}: expected {known}")
