"""MLflow's SQLite database: whether it can be used, and its schema made by one process at a time."""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from factory.runtime.atomic_write import sync

_REMEDY = "move it away, or give tracking.uri=sqlite:///<another file>"
_TIMEOUT_S = 5.0


def check_database(database: Path, *, key: str = "tracking.uri") -> None:
    """Raise ValueError if a file is no database, a damaged one, or one that a newer MLflow wrote.

    Nothing is created or migrated, and MLflow is not imported. A file that does not exist is fine.

    Args:
        database: the file.
        key: name for the error message.
    """
    if not database.exists():
        return
    if not database.is_file():
        raise ValueError(f"{key}: {database} is no file; {_REMEDY}")
    try:
        version = schema_version(database)
    except sqlite3.OperationalError:
        # Another process holds it, or there is no table yet, both of which pass.
        return
    except sqlite3.DatabaseError as error:
        raise ValueError(
            f"{key}: {database} is damaged or no SQLite database ({error}); {_REMEDY}"
        ) from error
    if version is not None and not _is_known(version):
        remedy = "update MLflow, or give tracking.uri=sqlite:///<another file>"
        raise ValueError(f"{key}: {database} was written by a newer MLflow (schema {version}); {remedy}")


def schema_version(database: Path) -> str | None:
    """Return the revision of the schema, None if it has none.

    Raises:
        sqlite3.Error: the file cannot be read as a database.
    """
    address = f"{database.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_TIMEOUT_S)) as opened:
        row = opened.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None:
        return None
    return str(row[0])


def _is_known(version: str) -> bool:
    """Say whether the installed MLflow has a migration to a schema; True where that cannot be found out."""
    spec = importlib.util.find_spec("mlflow")
    if spec is None or spec.origin is None:
        return True
    migrations = Path(spec.origin).parent / "store" / "db_migrations" / "versions"
    names = [path.name for path in migrations.glob("*.py")]
    return not names or any(name.startswith(version) for name in names)


def create_database(database: Path) -> None:
    """Make an empty database with MLflow's schema; a process that is killed meanwhile leaves none behind."""
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    prefix = f".{database.name}.new-"
    for left_over in database.parent.glob(f"{prefix}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    # A folder, because SQLite keeps a journal beside the file. Its name is new each time, because MLflow
    # keeps connections by name.
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=database.parent))
    try:
        unfinished = folder / database.name
        with _written_in_one_go(unfinished):
            store = SqlAlchemyStore(
                f"sqlite:///{unfinished.absolute()}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
            )
        # Open connections would go on writing to the file after it has its name.
        store.engine.dispose()
        sync(unfinished)
        unfinished.replace(database)
        sync(database.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _written_in_one_go(database: Path) -> Iterator[None]:
    """Let connections to a database that nobody needs yet never wait for the disk.

    MLflow's schema takes hundreds of statements; waiting for the disk after each takes seconds on a slow one.
    """
    from sqlalchemy import Engine, event

    def relax(connection: object, _record: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return
        files = [Path(file) for _, _, file in connection.execute("PRAGMA database_list")]
        if database.resolve() in files:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)


@contextmanager
def one_at_a_time(database: Path | None) -> Iterator[None]:
    """Keep other processes of ours out of a database inside the block; None stands for a server."""
    if database is None:
        yield
        return
    # Imported here: this module of POSIX does not exist on Windows.
    import fcntl

    database.parent.mkdir(parents=True, exist_ok=True)
    # Closing the file, or the end of the process, gives the lock back.
    with open(f"{database}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
