"""A Markdown page whose results a script writes."""

from __future__ import annotations

from pathlib import Path

BEGIN, END = "<!-- results -->", "<!-- /results -->"


def insert_results(text: str, page: Path) -> None:
    """Put `text` between the page's two marks, in place of what is there.

    Raises:
        ValueError: the page does not have each mark once, the first one first.
    """
    old = page.read_text(encoding="utf-8")
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in before + after:
        raise ValueError(f"{page}: has no place for results; write {BEGIN} and below it {END}, each once")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")
