"""Tracking URIs: their origin, passwords in them, and databases that cannot be used."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from factory.tracking import TrackingConfig, check_store, environment_note
from factory.tracking.credentials import redacted, shown
from factory.tracking.uri import resolve_uri

SECRET = "hunter2"
PASSWORDS = [
    f"http://me:{SECRET}@host:5000/path",
    f"http://{SECRET}@host:5000/path",
    f"http://me:a@{SECRET}@host:5000/path",
    f"http://me:a/{SECRET}@host:5000/path",
    f"http://host:5000/path?api_key={SECRET}",
    f"http://host:5000/path?access_token={SECRET}&sslmode=require",
]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without variables of MLflow, and leave none behind."""
    for name in [*os.environ]:
        if name.startswith("MLFLOW_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FACTORY_TRACKING_URI", "")


@pytest.mark.parametrize("uri", PASSWORDS)
def test_password_is_used_and_not_stored(uri: str, tmp_path: Path) -> None:
    """The setting and messages lose the password; the server is asked with it."""
    cfg = TrackingConfig(uri=uri)
    assert SECRET not in str(cfg)
    assert cfg.uri.startswith("http://host:5000/path")
    assert resolve_uri(cfg, output_root=tmp_path) == uri
    assert SECRET not in redacted(f"no answer from {uri}")


def test_password_alone_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password of the URI, and those in MLflow's variables, are struck out wherever they appear."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    TrackingConfig(uri=PASSWORDS[0])
    assert redacted(f"login with {SECRET} or t0ken failed") == "login with *** or *** failed"


def test_uri_without_password_stays_as_it_is() -> None:
    """A database file, a path with an at sign and public parameters are left alone."""
    for uri in ("sqlite:////a@b/mlflow.db", "http://host:5000/a@b", "postgresql://host/db?sslmode=require"):
        assert shown(uri) == uri


@pytest.mark.parametrize(
    ("given", "setting", "expected", "note"),
    [
        ("http://other:5000", "", "http://other:5000", "MLFLOW_TRACKING_URI=http://other:5000 is used"),
        (
            "http://a:b@other:5000",
            "",
            "http://a:b@other:5000",
            "MLFLOW_TRACKING_URI=http://other:5000 is used",
        ),
        ("http://other:5000", "http://own:1", "http://own:1", "MLFLOW_TRACKING_URI is ignored"),
        ("./mlruns", "", "sqlite:///", "MLFLOW_TRACKING_URI=./mlruns is ignored"),
    ],
)
def test_variable_of_mlflow_is_used_or_ignored_with_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str, setting: str, expected: str, note: str
) -> None:
    """The setting comes first, then the variable, then the store under the output root."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    cfg = TrackingConfig(uri=setting)
    assert resolve_uri(cfg, output_root=tmp_path).startswith(expected)
    assert environment_note(cfg).startswith(note)


def test_variables_without_effect_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line names each, and why; without variables, or without MLflow, there is none."""
    assert environment_note(TrackingConfig()) == ""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    note = environment_note(TrackingConfig())
    assert "MLFLOW_REGISTRY_URI is ignored" in note
    assert "MLFLOW_RUN_ID is ignored" in note
    assert "\n" not in note
    assert environment_note(TrackingConfig(kind="jsonl")) == ""


def write_schema(path: Path, version: str) -> None:
    """Make a database that claims to have a revision of MLflow's schema."""
    with sqlite3.connect(path) as opened:
        opened.execute("CREATE TABLE alembic_version (version_num TEXT)")
        opened.execute("INSERT INTO alembic_version VALUES (?)", (version,))


def test_damaged_and_newer_databases_are_named(tmp_path: Path) -> None:
    """The line says which of the two it is and gives the remedy; a usable or absent one passes."""
    path = tmp_path / "mlflow.db"
    check_store(TrackingConfig(), output_root=tmp_path)
    path.touch()
    check_store(TrackingConfig(), output_root=tmp_path)
    path.write_bytes(b"no database " * 200)
    with pytest.raises(ValueError, match=r"is damaged or no SQLite database .* move it away"):
        check_store(TrackingConfig(), output_root=tmp_path)
    path.unlink()
    write_schema(path, "ffffffffffff")
    with pytest.raises(ValueError, match=r"was written by a newer MLflow .* update MLflow"):
        check_store(TrackingConfig(), output_root=tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="is no file"):
        check_store(TrackingConfig(), output_root=tmp_path)


def test_messages_of_megabytes_are_searched_at_once() -> None:
    """A value in a stranger's file may be long; the search for addresses in it takes time in proportion."""
    text = "a" * 2_000_000
    assert redacted(f"{text} http://user:{SECRET}@host") == f"{text} http://host"
