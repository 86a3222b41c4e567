"""Hook of the site: links to files outside the pages become the paths of these files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

LINK = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+[^)#]+)(#[^)]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Replace links that leave the folder of the pages; in the repository they work as they are."""
    depth = len(PurePosixPath(page.file.src_uri).parents) - 1

    def replace(link: re.Match[str]) -> str:
        text, target, _ = link.groups()
        if target.count("../") <= depth:
            return link[0]  # it stays among the pages
        path = target.replace("../", "")
        return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"

    return LINK.sub(replace, markdown)
