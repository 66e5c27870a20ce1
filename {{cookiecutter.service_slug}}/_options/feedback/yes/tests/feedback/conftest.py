"""Fixtures: a service with a database of its own, SQLite or a real PostgreSQL."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.contract import LabelledInstance
from app.examples import EXAMPLES
from feedback.database import connect, migrate
from feedback.items import truth_name
from feedback.settings import FeedbackSettings
from serving.fields import read_label
from serving.testing import wait_until
from tests.conftest import Serve, make_label

TRUTH = truth_name(LabelledInstance)
DIRECTORIES = ("/usr/lib/postgresql/*/bin", "/usr/local/opt/postgresql*/bin")


class PostgreSQL:
    """A PostgreSQL on a free port of this machine, with its data in a directory."""

    def __init__(self, programs: Path, directory: Path) -> None:
        self._programs = programs
        self.directory = directory
        # It refuses to run as root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(directory, self._user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        data = ["-D", f"{directory}/data"]
        self._run("initdb", "--auth=trust", "--username=test", "--no-sync", *data)
        self._process: subprocess.Popen[bytes] | None = None

    def url_of(self, database: str) -> str:
        """The address of a database."""
        return f"postgresql://test@127.0.0.1:{self.port}/{database}"

    def make_database(self) -> str:
        """Make a database without tables and return its address."""
        name = f"test_{uuid.uuid4().hex}"
        self.run_sql(f"CREATE DATABASE {name}")
        return self.url_of(name)

    def start(self) -> None:
        """Start it and wait until it answers."""
        place = ["-k", str(self.directory), "-p", str(self.port), "-h", "127.0.0.1"]
        self._process = subprocess.Popen(
            [f"{self._programs}/postgres", "-D", f"{self.directory}/data", *place],
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers)

    def kill(self) -> None:
        """End it at once, as a crash does; what was committed is on the disk."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=20)

    def pause(self) -> None:
        """Let it answer nothing, and keep its connections."""
        for process in self._all():
            os.kill(process, signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        for process in self._all():
            os.kill(process, signal.SIGCONT)

    def run_sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement and return what psql prints."""
        return self._run("psql", self.url_of(database), "-qtA", "-c", statement)

    def dump(self, file: Path, database: str) -> None:
        """Back a database up, as docs/database.md says."""
        options = ["--format=custom", f"--file={file}"]
        self._run("pg_dump", *options, f"--dbname={self.url_of(database)}")

    def restore(self, file: Path, database: str) -> None:
        """Restore a backup, as docs/database.md says."""
        to = f"--dbname={self.url_of(database)}"
        self._run("pg_restore", "--no-owner", to, str(file))

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            self.run_sql("SELECT 1")
        except (OSError, AssertionError):
            return False
        return True

    def _run(self, program: str, *options: str) -> str:
        done = subprocess.run(
            [f"{self._programs}/{program}", *options],
            user=self._user,
            cwd="/",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _all(self) -> list[int]:
        assert self._process is not None
        listed = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self._process.pid)],
            capture_output=True,
            text=True,
        )
        return [self._process.pid, *map(int, listed.stdout.split())]


def find_programs() -> Path | None:
    """Return the directory of PostgreSQL's programs."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).parent] if on_path else []
    for pattern in DIRECTORIES:
        found += Path("/").glob(pattern.removeprefix("/"))
    return next((path for path in sorted(found) if (path / "initdb").exists()), None)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgreSQL]:
    """One for all tests, each of which has a database of its own."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # Not below pytest's directories, which only their owner may enter.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = PostgreSQL(programs, Path(directory))
        server.start()
        yield server
        server.kill()


@pytest.fixture
def postgresql(server: PostgreSQL) -> str:
    """The address of a new PostgreSQL database, without tables."""
    return server.make_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a new database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/feedback.db"
    address: str = request.getfixturevalue("postgresql")
    return address


def open_engine(url: str) -> Engine:
    """Return an engine as the service has it."""
    return connect(FeedbackSettings(database_url=SecretStr(url)))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """A database with tables."""
    engine = open_engine(url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def served(
    engine: Engine, url: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> TestClient:
    """A client of a service with that database."""
    monkeypatch.setenv("DATABASE_URL", url)
    client = serve()
    wait_until(lambda: client.get("/readyz").status_code == 200)
    return client


def make_item(number: int = 0, **changed: Any) -> dict[str, Any]:
    """Return a valid item of feedback: a sample of the contract, and its truth.

    What is changed to None is left out.
    """
    item = {
        "id": str(uuid.uuid4()),
        "prediction_id": uuid.uuid4().hex,
        "instance": EXAMPLES[number % len(EXAMPLES)],
        "prediction": {"model_version": "0123456789ab", "score": 0.5},
        TRUTH: make_label(read_label(LabelledInstance), number),
        **changed,
    }
    return {name: value for name, value in item.items() if value is not None}


def make_opinion(correct: bool) -> dict[str, Any]:
    """Return a valid item of feedback with an opinion in place of the truth."""
    item = make_item(correct=correct)
    del item[TRUTH]
    return item


def count(engine: Engine, table: str = "feedback") -> int:
    """Return the number of rows of a table."""
    with engine.connect() as connection:
        return connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0
