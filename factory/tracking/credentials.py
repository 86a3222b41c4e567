"""Passwords and tokens of tracking servers: used by this process, and kept out of settings and messages."""

from __future__ import annotations

import os
import re

_KEPT = "FACTORY_TRACKING_URI"
"""Variable that carries the complete URI to where it is used, also in processes that a launcher starts."""
_SECRET_KEY = re.compile(r"pass|pwd|token|secret|key|credential", re.IGNORECASE)
"""Names of URI parameters whose values are secrets."""
_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")
# The bound keeps the search linear in the length of a text: no scheme is as long.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}://[^\s'\"<>|]+")


def shown(uri: str) -> str:
    """Return a URI without user, password and secret parameters, for messages and files."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "sqlite":
        return uri
    address, question, query = rest.partition("?")
    authority = address.partition("/")[0]
    port = authority.rpartition(":")[2]
    if "@" in authority:
        # The user ends at the last "@" of the authority, since passwords may contain one.
        address = authority.rpartition("@")[2] + address[len(authority) :]
    elif ":" in authority and not port.isdigit() and "@" in address:
        # The password contains a slash.
        address = address.rpartition("@")[2]
    parameters = [pair for pair in query.split("&") if not _SECRET_KEY.search(pair.partition("=")[0])]
    public = "&".join(filter(None, parameters))
    if public:
        return f"{scheme}://{address}{question}{public}"
    return f"{scheme}://{address}"


def take_away(uri: str) -> str:
    """Return `shown(uri)`, and keep the complete URI in the environment for `complete`."""
    public = shown(uri)
    if public != uri:
        os.environ[_KEPT] = uri
    return public


def complete(uri: str) -> str:
    """Return the URI with the secrets that `take_away` took from it."""
    kept = os.environ.get(_KEPT, "")
    if kept and shown(kept) == uri:
        return kept
    return uri


def redacted(text: str) -> str:
    """Return a message without the secrets of URIs in it, and without those of the environment."""
    text = _URI.sub(lambda match: shown(match.group()), text)
    kept = os.environ.get(_KEPT, "").partition("://")[2]
    user_and_password = kept.rpartition("@")[0]
    password = user_and_password.partition(":")[2] or user_and_password
    for secret in (password, *(os.environ.get(name, "") for name in _VARIABLES)):
        if secret:
            text = text.replace(secret, "***")
    return text
