"""Pages that need no server, no network and no other file, light or dark as the reader's system is."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> Environment:
    """Return the templates; every value is escaped, and a missing one is an error."""
    return Environment(
        # The folder is package data, so a wheel has it, too.
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_html(path: Path, template: str, **values: Any) -> None:
    """Write a page.

    Args:
        path: the HTML file.
        template: name of its template.
        values: variables of the template; plain text is escaped, `Markup` is not.
    """
    # Text of users and strangers reaches the page through the template only.
    html = _environment().get_template(template).render(**values)
    # Matplotlib ends lines with blanks, and equal folders shall give equal pages without noise.
    path.write_text(re.sub(r"[ \t]+\n", "\n", html), encoding="utf-8")
