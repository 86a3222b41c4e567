"""Settings of the language model: where it is, how long it may think, and what it costs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from factory.validation import require


@dataclass(kw_only=True)
class LlmConfig:
    """Settings below `operator.llm`."""

    base_url: str = ""
    """Address of an endpoint with OpenAI's interface, up to and without `/chat/completions`."""
    model: str = ""
    key_variable: str = ""
    """Name of the environment variable that holds the key; empty if the endpoint needs none."""
    deadline_s: float = 10.0
    """Time after which the rule's choice is carried out [s]."""
    max_tokens: int = 200
    """Longest answer."""
    json_schema: bool = True
    """False for an endpoint that refuses a schema; answers are checked all the same."""
    calls_per_hour: int = 60
    """Most questions in an hour."""
    joules_per_token: float = 1.0
    """Energy that the endpoint spends on a token, in or out [J]; a statement, so all of it is estimated."""
    usd_per_mtoken_in: float = 0.0
    """Price of a million tokens of questions [USD]."""
    usd_per_mtoken_out: float = 0.0
    """Price of a million tokens of answers [USD]."""

    def __post_init__(self) -> None:
        """Raise ValueError when a value is out of its range."""
        if self.base_url:
            problem = _url_problem(self.base_url)
            # A password in an address is not for the screen.
            shown = self.base_url.rpartition("@")[2]
            require(not problem, "operator.llm.base_url", shown, problem)
        if self.key_variable:
            self._check_key()
        deadline_s = self.deadline_s
        require(0.0 < deadline_s <= 600.0, "operator.llm.deadline_s", deadline_s, "must be in (0, 600] s")
        require(
            1 <= self.max_tokens <= 32768, "operator.llm.max_tokens", self.max_tokens, "must be in [1, 32768]"
        )
        require(
            0 <= self.calls_per_hour <= 3600,
            "operator.llm.calls_per_hour",
            self.calls_per_hour,
            "must be in [0, 3600]",
        )
        for name in ("joules_per_token", "usd_per_mtoken_in", "usd_per_mtoken_out"):
            value = getattr(self, name)
            require(0.0 <= value < float("inf"), f"operator.llm.{name}", value, "must be a number >= 0")

    @property
    def key(self) -> str:
        """Return the key; empty if there is none."""
        return os.environ.get(self.key_variable, "")

    def _check_key(self) -> None:
        """Raise ValueError if there is no key, or none that a header can carry; the key is never shown."""
        remedy = "the environment has no such variable; export it, or leave the setting out"
        require(bool(self.key), "operator.llm.key_variable", self.key_variable, remedy)
        is_clean = self.key.isascii() and self.key.isprintable() and " " not in self.key
        remedy = "its value holds blanks or other characters that no key has"
        require(is_clean, "operator.llm.key_variable", self.key_variable, remedy)


def _url_problem(url: str) -> str:
    """Return the reason for which an address cannot be used; empty if it can."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "has characters that no address has"
    try:
        parts = urlsplit(url)
        is_complete = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_complete = False
    if not is_complete:
        return "give http://HOST:PORT/v1 or https://HOST/v1"
    if parts.username is not None or parts.password is not None:
        return "holds a name or a password; name the key's variable in operator.llm.key_variable"
    if parts.query or parts.fragment:
        return "ends in a query or a fragment; give the part before /chat/completions"
    return ""
