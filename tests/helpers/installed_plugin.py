"""Make `tests/plugin_package` look installed, with neither a network nor a second environment."""

from __future__ import annotations

import tomllib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "plugin_package"


def install(site: Path) -> Path:
    """Put the package, and the metadata that pip would make for it, into the folder `site`."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    (site / "shuttle").symlink_to(PACKAGE / "shuttle", target_is_directory=True)

    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata)
    groups = []
    for group, points in project["entry-points"].items():
        lines = [f"{name} = {reference}" for name, reference in points.items()]
        groups.append("\n".join([f"[{group}]", *lines, ""]))
    (info / "entry_points.txt").write_text("\n".join(groups))
    return site
