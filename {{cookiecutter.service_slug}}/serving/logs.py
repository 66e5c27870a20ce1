"""Logs: one JSON object a line on stderr, or lines for people (LOG_FORMAT=console).

`serving.access` records each request; Python's own logging, uvicorn's included,
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
from datetime import UTC, datetime
from functools import lru_cache
from time import time
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from serving.requests import UNLIMITED, Ids, Outcome, current_ids

STDERR = 2
FLUSH_SECONDS = 0.1
MAX_LINES = 10_000  # beyond it, whoever logs waits until stderr takes them

Fields = dict[str, Any]
# When a request was answered (seconds since the epoch), how it ended, how long it took
# (seconds), its ids, the version of the model, and who asked.
Response = tuple[float, Outcome, float, Ids, str | None, str | None]

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

    def __init__(self, level: str, *, for_people: bool = False) -> None:
        super().__init__(level.upper())
        self._for_people = for_people
        self._endings: dict[tuple[Outcome, str | None, str | None], bytes] = {}
        self._waiting: deque[bytes | Response] = deque()
        self._gathers = False
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to gather lines."""
        self._gathers = True
        self._stopped.clear()
        threading.Thread(target=self._flush_often, daemon=True).start()

    def stop(self) -> None:
        """Write what has gathered, and each further line at once."""
        self._gathers = False
        self._stopped.set()
        self.flush()

    def record_response(
        self,
        outcome: Outcome,
        seconds: float,
        ids: Ids,
        model_version: str | None,
        tenant: str | None = None,
    ) -> None:
        """Write the line of a request.

        The line is made when it is written: many in a row take half the time.
        """
        self._waiting.append((time(), outcome, seconds, ids, model_version, tenant))
        if not self._gathers or len(self._waiting) >= MAX_LINES:
            self.flush()

    def say(self, message: str) -> None:
        """Write a line whatever LOG_LEVEL is."""
        fields = {"level": "info", "logger": "serving", "message": message}
        self._waiting.append(self._line({"time": datetime.now(UTC), **fields}))
        self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Take what comes through Python's logging."""
        try:
            self._waiting.append(self._line(from_record(record)))
            if not self._gathers or record.levelno >= logging.ERROR:
                self.flush()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write the lines that wait. If nobody reads stderr any more, they are lost."""
        self.acquire()
        try:
            # Other threads may append meanwhile: a deque loses nothing.
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            lines = [
                line if isinstance(line, bytes) else self._response_line(*line)
                for line in batch
            ]
            rest = memoryview(b"".join(lines))
            with suppress(OSError):
                while rest:  # a signal may cut a write short
                    rest = rest[os.write(STDERR, rest) :]
        finally:
            self.release()

    def _flush_often(self) -> None:
        while not self._stopped.wait(FLUSH_SECONDS):
            self.flush()

    def _line(self, fields: Fields) -> bytes:
        return console_line(fields) if self._for_people else json_line(fields)

    def _response_line(
        self,
        at: float,
        outcome: Outcome,
        seconds: float,
        ids: Ids,
        model_version: str | None,
        tenant: str | None,
    ) -> bytes:
        if level_of(outcome) < self.level:
            return b""
        if self._for_people:
            own = {
                "time": datetime.fromtimestamp(at, UTC),
                "duration": round(seconds, 6),
            }
            who = {"tenant": tenant} if tenant else {}
            return console_line(own | shared(outcome) | who)
        # Half the time of to_json: a service logs all day.
        request_id, trace_id = ids
        trace = f',"trace_id":"{trace_id}"' if trace_id else ""
        second, part = divmod(at, 1)
        time = f"{whole_second(int(second))}.{int(part * 1e6):06}Z"
        line = f'"time":"{time}","duration":{seconds:.6f},"request_id":"{request_id}"'
        # The end of the line is the same for all requests of an outcome.
        ending = self._endings.get((outcome, model_version, tenant))
        if ending is None:
            fields = {"model_version": model_version} | shared(outcome)
            ending = json_line(fields | ({"tenant": tenant} if tenant else {}))[1:]
            self._endings[outcome, model_version, tenant] = ending
        return b"{" + f"{line}{trace},".encode("ascii") + ending


def take_over(log: Log) -> None:
    """Send Python's own logging, its warnings and a crash through the log."""
    logging.basicConfig(handlers=[log], level=log.level, force=True)
    logging.captureWarnings(True)

    def on_crash(*error: Any) -> None:
        logging.getLogger("serving").critical("The process crashed.", exc_info=error)

    def on_thread_crash(crash: threading.ExceptHookArgs) -> None:
        if crash.exc_type is not SystemExit:
            logging.getLogger("serving").critical(
                "A thread crashed.", exc_info=crash.exc_value
            )

    sys.excepthook = on_crash
    threading.excepthook = on_thread_crash


def level_of(outcome: Outcome) -> int:
    """How severe a line about it is; what looks at the service is of no interest."""
    route, _, status = outcome
    if route in UNLIMITED:
        return logging.DEBUG
    return logging.INFO if status < 500 else logging.WARNING


@lru_cache(maxsize=8)
def whole_second(at: int) -> str:
    """Seconds since the epoch as RFC 3339 in UTC, without the zone."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def shared(outcome: Outcome) -> Fields:
    """What the lines of all requests with this outcome have in common."""
    route, method, status = outcome
    return {
        "level": logging.getLevelName(level_of(outcome)).lower(),
        "logger": "serving.access",
        "message": f"{method} {route} {status}",
        "method": method,
        "route": route,
        "status": status,
    }


def id_fields(ids: Ids | None) -> Fields:
    """The ids as fields of a line."""
    if ids is None:
        return {}
    request_id, trace_id = ids
    return {"request_id": request_id} | ({"trace_id": trace_id} if trace_id else {})


def from_record(record: logging.LogRecord) -> Fields:
    """A record of Python's logging as the fields of a line."""
    fields: Fields = {
        "time": datetime.fromtimestamp(record.created, UTC),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
        **id_fields(current_ids.get()),
    }
    fields |= {key: vars(record)[key] for key in vars(record).keys() - _STANDARD}
    if record.exc_info:
        fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
    return fields


def json_line(fields: Fields) -> bytes:
    """The fields as JSON, the time as RFC 3339 in UTC."""
    line: bytes
    try:
        line = to_json(fields, inf_nan_mode="null", serialize_unknown=True)
    except PydanticSerializationError:  # half of a surrogate pair is no UTF-8
        line = json.dumps(fields, default=str).encode("ascii")
    return line + b"\n"


def console_line(fields: Fields) -> bytes:
    """The fields as a line for a person; a traceback goes below it."""
    more = "".join(
        f"  {key}={value}" for key, value in fields.items() if key not in _HIDDEN
    )
    at = fields["time"].astimezone()
    line = f"{at:%H:%M:%S} {fields['level']:<8} {fields['message']}{more}\n"
    text: str = line + fields.get("traceback", "")
    return text.encode("utf-8", "backslashreplace")
