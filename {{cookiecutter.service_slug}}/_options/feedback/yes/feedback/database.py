"""The database: connections, threads that wait for it, migrations."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from feedback.settings import FeedbackSettings

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
FIRST_SECONDS = 15.0  # for the first call to a SQLite file, which makes its tables
MAX_WAITING = 32  # calls at once; more are refused, so that requests do not pile up
LOCK_SECONDS = 5  # for which a migration waits for a lock: requests wait behind it
LOCK_NUMBER = 1_701_734_765  # any number; who holds its lock migrates, others wait

logger = logging.getLogger(__name__)


class Unavailable(Exception):
    """The database cannot be used now; the message says why."""


def connect(settings: FeedbackSettings) -> Engine:
    """Return an engine, which connects when it is used. Values never reach the log."""
    if settings.is_sqlite:
        return _connect_sqlite(settings)
    milliseconds = int(settings.feedback_seconds * 1000)
    return create_engine(
        settings.url,
        hide_parameters=True,
        pool_size=settings.feedback_connections,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=settings.feedback_seconds,
        connect_args={
            "connect_timeout": max(2, round(settings.feedback_seconds)),
            "tcp_user_timeout": milliseconds,
            "options": f"-c statement_timeout={milliseconds}",
        },
    )


def _connect_sqlite(settings: FeedbackSettings) -> Engine:
    options: dict[str, Any] = {}
    if settings.url.database in (None, "", ":memory:"):
        options["poolclass"] = StaticPool
    else:
        Path(str(settings.url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        settings.url,
        hide_parameters=True,
        connect_args={
            "check_same_thread": False,
            "timeout": settings.feedback_seconds,
        },
        **options,
    )

    @event.listens_for(engine, "connect")
    def enforce_foreign_keys(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA foreign_keys = ON")

    return engine


@contextmanager
def opened(settings: FeedbackSettings) -> Iterator[Engine]:
    """Open the database for a command, and close it at the end."""
    engine = connect(settings)
    try:
        yield engine
    finally:
        engine.dispose()


class Database:
    """The database as the server uses it: in threads, with a time-out for each call.

    A call that hangs takes a thread, never the event loop. The threads are daemons,
    which those of ThreadPoolExecutor are not: the process ends without waiting for
    them.
    """

    def __init__(self, settings: FeedbackSettings) -> None:
        self._settings = settings
        self._seconds = settings.feedback_seconds
        self._threads = 1 if settings.is_sqlite else settings.feedback_connections
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]]] = SimpleQueue()
        self._waiting = 0
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    async def call(self, function: Callable[[Engine], T]) -> T:
        """Call a function with the engine. Raises Unavailable."""
        if self._waiting >= MAX_WAITING:
            raise Unavailable("Too many requests wait for the database.")
        self._waiting += 1
        future = self.submit(function)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._limit())
        except TimeoutError:
            raise Unavailable(
                f"The database has not answered within {self._seconds:g} s."
            ) from None
        except SQLAlchemyError as error:
            raise Unavailable(describe(error)) from None
        finally:
            self._waiting -= 1

    def _limit(self) -> float:
        is_first = self._settings.is_sqlite and self._engine is None
        return max(self._seconds, FIRST_SECONDS) if is_first else self._seconds

    def submit(self, function: Callable[[Engine], T]) -> "Future[T]":
        """Call a function with the engine in a thread."""
        future: Future[T] = Future()
        self._calls.put((future, lambda: function(self._open())))
        while self._threads:
            self._threads -= 1
            threading.Thread(target=self._work, daemon=True).start()
        return future

    def close(self) -> None:
        """End the threads and the connections once they are idle; wait for neither."""
        if self._engine is not None:
            self.submit(Engine.dispose)

    def _open(self) -> Engine:
        with self._lock:
            if self._engine is None:
                engine = connect(self._settings)
                if self._settings.is_sqlite:
                    migrate(engine)
                self._engine = engine
            return self._engine

    def _work(self) -> None:
        while True:
            future, function = self._calls.get()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)


def describe(error: Exception) -> str:
    """Return the first line of what a driver says; it may name hosts, never values."""
    reason = str(getattr(error, "orig", None) or error).strip()
    return reason.partition("\n")[0] or type(error).__name__


def revisions() -> list[str]:
    """Return the numbers of the migrations, in order: their file names begin so."""
    files = sorted((MIGRATIONS / "versions").glob("[0-9]*.py"))
    return [file.name.partition("_")[0] for file in files]


def is_behind(engine: Engine) -> bool:
    """Return whether the database lacks a migration; it may be ahead of this code."""
    with engine.connect() as connection:
        current = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return current in revisions()[:-1]


def configure(connection: Connection) -> Any:
    """Return what Alembic's commands take, for one connection."""
    from alembic.config import Config  # the server starts without it

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the schema up to a revision, in one transaction.

    It waits `LOCK_SECONDS` for a lock, so that it never stops the service for longer:
    then it fails, and nothing was changed.
    """
    from alembic import command

    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK_NUMBER})"))
        command.upgrade(configure(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to a revision; what newer columns held is lost."""
    from alembic import command

    with engine.begin() as connection:
        command.downgrade(configure(connection), revision)


def check(engine: Engine) -> None:
    """Compare schema and tables. Raises alembic.util.CommandError if they differ."""
    from alembic import command

    with engine.begin() as connection:
        command.check(configure(connection))


def revise(engine: Engine, message: str) -> None:
    """Write the migration that brings the schema to the tables of the code."""
    from alembic import command

    number = f"{len(revisions()) + 1:04}"
    with engine.begin() as connection:
        config = configure(connection)
        command.revision(config, message, autogenerate=True, rev_id=number)
