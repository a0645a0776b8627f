"""The database's tables, versions and clocks, on SQLite and PostgreSQL."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from app.errors import StartupError
from app.store.database import Database, head
from app.store.tables import metadata
from tests.support.postgres import Postgres, migrated
from tests.support.stores import rows, running


def test_the_migrations_make_the_tables(store_url: str) -> None:
    database = Database(store_url)
    database.open()
    with database.writing() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
    database.close()


def test_processes_that_migrate_at_once(postgres: Postgres) -> None:
    url = postgres.new_database()
    command = [sys.executable, "-m", "app.store", "migrate"]
    environment = {"FRONTPAGE_STORE": url, "PATH": "/usr/bin:/bin"}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    outputs = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert all(output.endswith(f"has version {head()}\n") for output in outputs)
    assert rows(url, "SELECT version_num FROM alembic_version") == [(head(),)]


def test_services_that_start_at_once_on_a_new_file(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path}/new/store.sqlite") for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Database.open, databases))
    for database in databases:
        database.close()


def test_postgresql_is_not_migrated_by_a_start(postgres: Postgres) -> None:
    with pytest.raises(StartupError, match=r"has version none.*python -m app.store migrate"):
        Database(postgres.new_database()).open()


def test_a_newer_version_is_refused(store_url: str) -> None:
    database = Database(store_url)
    database.open()
    with database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StartupError, match="version 9999, which a newer Frontpage made"):
        Database(store_url).open()
    database.close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://host/name", "sqlite or postgresql is needed, not mysql"),
        ("no url", "not a URL of a database"),
        ("sqlite://", "a file is needed"),
        ("postgresql://u:secret@127.0.0.1:1/x", r"can't be opened: .*Connection refused"),
        ("postgresql://u@127.0.0.1:1/x?password=secret", r"can't be opened: .*Connection refused"),
    ],
)
def test_what_can_not_be_opened(url: str, why: str) -> None:
    with pytest.raises(StartupError, match=why) as caught:
        Database(url).open()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_none_of_ours(tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_text("not a database, but long enough to look like one " * 100)
    (tmp_path / "folder").mkdir()
    for file, why in [
        (noise, "file is not a database"),
        (tmp_path / "folder", "unable to open database file"),
        (noise / "below", "File exists|Not a directory"),
    ]:
        with pytest.raises(StartupError, match=why) as caught:
            Database(f"sqlite:///{file}").open()
        assert "\n" not in str(caught.value)


def test_the_times_are_the_databases(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = Database(migrated(postgres))
    monkeypatch.setattr("app.store.database.time.time", lambda: 1000.0)
    behind.open()
    assert behind.now() > 1.7e9
    behind.close()


def test_a_locked_file_delays_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.database.LOCK_TIMEOUT_S", 0.1)
    file = tmp_path / "file"
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StartupError, match="locked"):
            Database(f"sqlite:///{file}").open()
        other.execute("COMMIT")
        with running(f"sqlite:///{file}"):
            pass
