"""Engines are chosen by name; mistakes are answered in one line that says what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from factory.floor.engines import ENGINES
from factory.floor.engines import ray as ray_engine


def test_a_missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Ray, one line says how to install it."""
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[ray\]'"):
        ENGINES["ray"](root=tmp_path, cores=None, address=None)
    assert list(tmp_path.iterdir()) == []


def test_an_address_is_for_ray_only(tmp_path: Path) -> None:
    """The local engine has no cluster."""
    with pytest.raises(ValueError, match="add --engine ray"):
        ENGINES["local"](root=tmp_path, cores=None, address="127.0.0.1:6379")


@pytest.mark.parametrize("address", ["6379", "host", "host:", ":6379", "host:port"])
def test_a_malformed_address_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    """An address has a host and a port."""
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: object())
    with pytest.raises(ValueError, match="give HOST:PORT"):
        ENGINES["ray"](root=tmp_path, cores=None, address=address)


def test_an_address_where_nothing_listens_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would try for minutes."""
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: object())
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ValueError, match="no cluster answers"):
        ENGINES["ray"](root=tmp_path, cores=None, address=f"127.0.0.1:{port}")


def test_the_nodes_of_a_named_cluster_have_their_own_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of cores has no meaning there."""
    monkeypatch.setattr(ray_engine, "find_spec", lambda name: object())
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ValueError, match="leave it out"):
            ENGINES["ray"](root=tmp_path, cores=2.0, address=address)
