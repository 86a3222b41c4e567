"""A text that attacks pages, and the check that it stayed a text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

ATTACK = '"><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}{% x %}\x1b[2J</pre></svg>'


class Page(HTMLParser):
    """Collects what a browser would run or fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.dangers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed", "base", "form"):
            self.dangers.append(tag)
        for key, value in attrs:
            address = (value or "").strip().lower()
            is_fetched = key in ("href", "src", "xlink:href") and address.startswith(("javascript:", "http"))
            if key.startswith("on") or is_fetched or (key == "src" and address == "x"):
                self.dangers.append(f"{tag} {key}={value}")


def assert_harmless(path: Path) -> None:
    """Check that a page runs and fetches nothing, and shows the attack as it is."""
    text = path.read_text()
    page = Page()
    page.feed(text)
    assert page.dangers == []
    assert "<script>alert" not in text
    # A browser is told, too, that the page runs and fetches nothing.
    assert "Content-Security-Policy" in text and "default-src 'none'" in text
    assert "alert(1)" in text and "{{7*7}}" in text
