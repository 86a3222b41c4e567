"""The code is readable: it explains its reasons, in plain statements and plain docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST_LINE = 110
LONGEST_FILE = 350
LEAST_COMMENTS = 0.03
"""Share of comment lines among the lines that are not blank."""
MOST_PARALLEL = 0.003
"""Assignments of one tuple to another, such as `a, b = 1, 2`, for each line that is not blank."""
MOST_CONDITIONALS = 0.009
"""Conditional expressions, such as `a if b else c`, for each line that is not blank."""
CLAUSE = re.compile(r"(What|Which|Who|Whom|Whose|That|Of|Where|When|Whether|Why|How)\b")
"""First words of docstrings that are clauses; a docstring begins with a noun or an imperative."""


@dataclass(frozen=True)
class Source:
    """A Python file of the project."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """Path from the root of the project."""
        return str(self.path.relative_to(ROOT))

    @property
    def lines(self) -> list[str]:
        """All lines that are not blank."""
        return [line for line in self.text.splitlines() if line.strip()]

    @property
    def num_comments(self) -> int:
        """Number of lines that are comments."""
        return sum(line.lstrip().startswith("#") for line in self.lines)

    def nodes(self) -> Iterator[ast.AST]:
        """Yield all nodes of the syntax tree."""
        yield from ast.walk(ast.parse(self.text))


@pytest.fixture(scope="module")
def sources() -> list[Source]:
    """Return the files of `factory` and `envs`, each once: the package holds `envs` as a link."""
    paths = [
        path
        for folder in ("factory", "envs")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(parent.is_symlink() for parent in path.parents)
    ]
    assert len(paths) > 100
    return [Source(path, path.read_text(encoding="utf-8")) for path in paths]


def num_lines(sources: list[Source]) -> int:
    """Return the number of all lines that are not blank."""
    return sum(len(source.lines) for source in sources)


def test_code_explains_its_reasons(sources: list[Source]) -> None:
    """At least three lines in a hundred are comments."""
    assert sum(source.num_comments for source in sources) >= LEAST_COMMENTS * num_lines(sources)


def test_statements_assign_one_value(sources: list[Source]) -> None:
    """At most three lines in a thousand assign several values at once."""
    found = [f"{source.name}:{node.lineno}" for source in sources for node in parallel_assignments(source)]
    assert len(found) <= MOST_PARALLEL * num_lines(sources), found


def parallel_assignments(source: Source) -> Iterator[ast.Assign]:
    """Yield the assignments of a tuple of expressions to a tuple of targets."""
    for node in source.nodes():
        is_parallel = (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Tuple)
            and any(isinstance(target, ast.Tuple) for target in node.targets)
        )
        if is_parallel:
            assert isinstance(node, ast.Assign)
            yield node


def test_conditions_are_statements(sources: list[Source]) -> None:
    """At most nine lines in a thousand hold a conditional expression."""
    found = [
        f"{source.name}:{node.lineno}"
        for source in sources
        for node in source.nodes()
        if isinstance(node, ast.IfExp)
    ]
    assert len(found) <= MOST_CONDITIONALS * num_lines(sources), found


def test_files_and_lines_are_short(sources: list[Source]) -> None:
    """Every file and line fits a screen, and none asks the formatter to leave it alone."""
    long_files = [source.name for source in sources if len(source.text.splitlines()) > LONGEST_FILE]
    assert not long_files
    wide = [source.name for source in sources if any(len(line) > LONGEST_LINE for line in source.lines)]
    assert not wide
    assert not [source.name for source in sources if re.search(r"#\s*fmt:\s*(skip|off)", source.text)]


def test_docstrings_begin_with_a_noun_or_an_imperative(sources: list[Source]) -> None:
    """No docstring begins with a clause: the subject or the action comes first."""
    clauses = [
        f"{source.name}:{line}: {text.splitlines()[0]}"
        for source in sources
        for line, text in docstrings(source)
        if CLAUSE.match(text)
    ]
    assert not clauses


def docstrings(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and text of the docstrings, those below constants and fields included."""
    for node in source.nodes():
        body = getattr(node, "body", None)
        # The body of a lambda or a conditional expression is no list of statements.
        if not isinstance(body, list):
            continue
        for statement in body:
            value = getattr(statement, "value", None)
            is_text = isinstance(statement, ast.Expr) and isinstance(value, ast.Constant)
            if is_text and isinstance(value.value, str):
                yield statement.lineno, value.value.strip()


@pytest.mark.parametrize(
    ("text", "num_parallel", "num_clauses"),
    [
        ("a, b = 1, 2", 1, 0),
        ("a, b = pair", 0, 0),
        ('x = 1\n"""What it is."""', 0, 1),
        ('def f():\n    """Return 1."""\n    return 1', 0, 0),
        ('class A:\n    """Whose."""\n    x: int\n    """Of the class."""', 0, 2),
    ],
)
def test_gauges_find_what_they_look_for(text: str, num_parallel: int, num_clauses: int) -> None:
    """The gauges count parallel assignments and clauses, and nothing else."""
    source = Source(ROOT / "example.py", text)
    assert len(list(parallel_assignments(source))) == num_parallel
    assert sum(bool(CLAUSE.match(found)) for _, found in docstrings(source)) == num_clauses
