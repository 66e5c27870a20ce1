"""Logs: one JSON object a line on stderr, or lines for people (LOG_FORMAT=console).

`app.watch` writes a line for each request; Python's own logging, uvicorn's included,
comes out in the same form once `take_over` is called.
"""

import json
import logging
import os
import sys
import threading
import traceback
from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from app.limits import EXEMPT
from app.settings import Settings

STDERR = 2
FLUSH_SECONDS = 0.5
MAX_LINES = 10_000  # beyond it, whoever logs waits until stderr takes them

Fields = dict[str, Any]

# What every line that is written during a request says of it: its id, its trace.
about_request: ContextVar[Fields] = ContextVar("about_request", default={})

# What logging itself puts into a record; the rest came by `extra`.
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
# What the line for a person says in its own way, or leaves out.
_HIDDEN = frozenset(
    "time level logger message traceback method route status model_version "
    "request_id trace_id".split()
)


class Log(logging.Handler):
    """The one way to stderr, in batches: a write for every line would cost the most.

    Between `start` and `stop` lines wait for at most `FLUSH_SECONDS`; an error does not
    wait, and takes along what does. Before and after, every line is written at once.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.log_level.upper())
        self._format = console_line if settings.log_format == "console" else json_line
        self._lines: deque[bytes] = deque()
        self._stopped = threading.Event()
        self._stopped.set()

    def start(self) -> None:
        """Begin to gather lines."""
        self._stopped.clear()
        threading.Thread(target=self._flush_often, daemon=True).start()

    def stop(self) -> None:
        """Write what has gathered, and each further line at once."""
        self._stopped.set()
        self.flush()

    def answered(
        self, route: str, method: str, status: int, seconds: float, model: str | None
    ) -> None:
        """Write the line of a request; `model` is the version that was served."""
        level = logging.INFO if status < 500 else logging.WARNING
        if route in EXEMPT:
            level = logging.DEBUG
        if level < self.level:
            return
        line: Fields = {
            "time": datetime.now(UTC),
            "level": logging.getLevelName(level).lower(),
            "logger": "app.access",
            "message": f"{method} {route} {status}",
            **about_request.get(),
            "method": method,
            "route": route,
            "status": status,
            "duration": round(seconds, 6),
            "model_version": model,
        }
        self._write(line)

    def say(self, message: str) -> None:
        """Write a line whatever LOG_LEVEL is."""
        self._write(
            {
                "time": datetime.now(UTC),
                "level": "info",
                "logger": "app",
                "message": message,
            }
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Take what comes through Python's logging."""
        try:
            self._write(from_record(record))
            if record.levelno >= logging.ERROR:
                self.flush()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write the lines that wait. If nobody reads stderr any more, they are lost."""
        self.acquire()
        try:
            # Other threads may append meanwhile: a deque loses nothing.
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            rest = memoryview(b"".join(lines))
            with suppress(OSError):
                while rest:  # a signal may cut a write short
                    rest = rest[os.write(STDERR, rest) :]
        finally:
            self.release()

    def _write(self, fields: Fields) -> None:
        self._lines.append(self._format(fields))
        if self._stopped.is_set() or len(self._lines) >= MAX_LINES:
            self.flush()

    def _flush_often(self) -> None:
        while not self._stopped.wait(FLUSH_SECONDS):
            self.flush()


def take_over(log: Log) -> None:
    """Send Python's own logging, its warnings and a crash through the log."""
    logging.basicConfig(handlers=[log], level=log.level, force=True)
    logging.captureWarnings(True)

    def on_crash(*error: Any) -> None:
        logging.getLogger("app").critical("The process crashed.", exc_info=error)

    sys.excepthook = on_crash


def from_record(record: logging.LogRecord) -> Fields:
    """A record of Python's logging as the fields of a line."""
    fields: Fields = {
        "time": datetime.fromtimestamp(record.created, UTC),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
        **about_request.get(),
    }
    fields |= {key: vars(record)[key] for key in vars(record).keys() - _STANDARD}
    if record.exc_info:
        fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
    return fields


def json_line(fields: Fields) -> bytes:
    """The fields as JSON, the time as RFC 3339 in UTC."""
    try:
        line: bytes = to_json(fields, inf_nan_mode="null", serialize_unknown=True)
    except PydanticSerializationError:  # half of a surrogate pair is no UTF-8
        line = json.dumps(fields, default=str).encode("ascii")
    return line + b"\n"


def console_line(fields: Fields) -> bytes:
    """The fields as a line for a person, with the traceback below it if there is one."""
    more = "".join(
        f"  {key}={value}" for key, value in fields.items() if key not in _HIDDEN
    )
    time = fields["time"].astimezone()
    line = f"{time:%H:%M:%S} {fields['level']:<8} {fields['message']}{more}\n"
    text = line + fields.get("traceback", "")
    return text.encode("utf-8", "backslashreplace")
