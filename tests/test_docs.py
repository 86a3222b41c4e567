"""The examples of the documentation run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = [
    pytest.param(code, id=f"{page.name}-{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, code in enumerate(
        re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_example_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python example runs to its end, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    exec(
        compile(code, "example", "exec"), {"__name__": "__main__"}
    )  # the page's text, run as a reader would run it


def test_the_page_on_wrappers_has_its_four_examples() -> None:
    """The page's examples are found: torch, Gymnasium, stable-baselines3 and rsl_rl."""
    found = "\n".join(param.values[0] for param in EXAMPLES if str(param.id).startswith("wrappers.md"))
    for name in ("NormalizeObservation", "ToNumpy", "Sb3VecEnv", "RslRlVecEnv"):
        assert name in found


def test_tests_named_in_the_pages_exist() -> None:
    """What a page says is tested is tested by a test of that name."""
    named = {name for page in DOCS.glob("*.md") for name in re.findall(r"`(test_\w+)`", page.read_text())}
    written = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    assert len(named) > 30
    assert not [name for name in sorted(named) if f"def {name}(" not in written]
