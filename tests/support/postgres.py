"""A real PostgreSQL server for tests, from Debian's package, in a folder of its own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg

from app.store.database import Database
from loadtests.services import free_port
from tests.support.waiting import HANG_S

LOCALE = ["-E", "UTF8", "--locale=C.UTF-8"]
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "128MB",
    # Nothing waits for the disk, neither here nor when the files are removed. What was committed is
    # still there after a crash of the server, though not after one of the machine.
    "fsync": "off",
}


def binaries() -> Path:
    """The folder of `postgres` and `initdb`. Raises RuntimeError if PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if found:
        return found[-1].parent
    if (on_path := shutil.which("postgres")) is not None:
        return Path(on_path).resolve().parent
    raise RuntimeError("no PostgreSQL server; on Debian: apt-get install postgresql")


def server_user() -> str | None:
    """The user to run as: PostgreSQL refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


@dataclass
class Postgres:
    """One server. Its databases are gone when it is removed."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="frontpage-pg-")))
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def create(self) -> None:
        user = server_user()
        if user is not None:
            os.chown(self.folder, pwd.getpwnam(user).pw_uid, -1)
        command = [str(binaries() / "initdb"), "-D", str(self.data), "-U", "frontpage"]
        subprocess.run(
            [
                *command,
                "--auth=trust",
                "--no-sync",
                "--wal-segsize=1",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            user=user,
        )

    def start(self) -> None:
        settings = {**OPTIONS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [binaries() / "postgres", "-D", self.data, *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                user=server_user(),
            )
        give_up = time.monotonic() + HANG_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    raise
                time.sleep(0.02)

    def stop(self, signal_number: int = signal.SIGINT) -> None:
        """End the server; SIGINT disconnects its clients, SIGQUIT is as sudden as a crash."""
        if self.process is not None:
            self.process.send_signal(signal_number)
            self.process.wait()
            self.process = None

    def pause(self) -> None:
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def limit_files(self, size: int) -> None:
        """Let no write reach beyond so many bytes in any file, as if the disk were full. -1 lifts
        it."""
        for pid in self._pids():
            limit = f"--fsize={'unlimited' if size < 0 else size}:"
            command = ["prlimit", f"--pid={pid}", limit]
            subprocess.run(command, check=False, user=server_user(), cwd="/")

    def url(self, database: str) -> str:
        return f"postgresql://frontpage@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _signal_all(self, number: int) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        """The server and each process of its connections."""
        assert self.process is not None
        children = subprocess.run(
            ["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False
        )
        return [self.process.pid, *map(int, children.stdout.split())]


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.create()
        server.start()
        yield server
    finally:
        server.stop(signal.SIGQUIT)  # a proper end would first write all databases to the disk
        shutil.rmtree(server.folder, ignore_errors=True)


def migrated(server: Postgres) -> str:
    """The URL of a new database with the store's tables."""
    database = Database(server.new_database())
    database.migrate()
    database.close()
    return database.url.render_as_string(hide_password=False)
