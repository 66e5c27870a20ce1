"""Write logs to stderr: one JSON object per line, or text (LOG_FORMAT=console).

`serving.access` records each request. After `capture_logging`, Python's own logging
(uvicorn's included) is written in the same format.
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
MAX_LINES = 10_000  # beyond it, logging waits for stderr

Fields = dict[str, Any]
# Time of the response (seconds since the epoch), outcome, duration (seconds), ids,
# version of the model, tenant.
Response = tuple[float, Outcome, float, Ids, str | None, str | None]

# Attributes of every record; all others come from `extra`.
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
# Fields that a console line shows in its own way or omits.
_HIDDEN = frozenset(
    "time level logger message traceback method route status model_version "
    "request_id trace_id".split()
)


class Log(logging.Handler):
    """Write all log lines to stderr, in batches: a write per line is expensive.

    Between `start` and `stop`, lines are buffered for at most `FLUSH_SECONDS`; an error
    flushes the buffer. Before and after, every line is written at once.
    """

    def __init__(self, level: str, *, for_people: bool = False) -> None:
        super().__init__(level.upper())
        self._for_people = for_people
        self._endings: dict[tuple[Outcome, str | None, str | None], bytes] = {}
        self._waiting: deque[bytes | Response] = deque()
        self._buffered = False
        self._stopped = threading.Event()

    def start(self) -> None:
        """Start to buffer lines."""
        self._buffered = True
        self._stopped.clear()
        threading.Thread(target=self._flush_often, daemon=True).start()

    def stop(self) -> None:
        """Flush the buffer, and write each further line at once."""
        self._buffered = False
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

        Lines are formatted in `flush`: many in a row take half the time.
        """
        self._waiting.append((time(), outcome, seconds, ids, model_version, tenant))
        if not self._buffered or len(self._waiting) >= MAX_LINES:
            self.flush()

    def announce(self, message: str) -> None:
        """Write a line regardless of LOG_LEVEL."""
        fields = {"level": "info", "logger": "serving", "message": message}
        self._waiting.append(self._line({"time": datetime.now(UTC), **fields}))
        self.flush()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of Python's logging."""
        try:
            self._waiting.append(self._line(describe_record(record)))
            if not self._buffered or record.levelno >= logging.ERROR:
                self.flush()
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Write the buffered lines. They are lost if stderr is closed."""
        self.acquire()
        try:
            # Other threads may append meanwhile; deques are thread-safe.
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            lines = [
                line if isinstance(line, bytes) else self._response_line(*line)
                for line in batch
            ]
            rest = memoryview(b"".join(lines))
            with suppress(OSError):
                while rest:  # a write may be partial
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
            return console_line(own | describe_outcome(outcome) | who)
        # Formatting by hand takes half the time of to_json.
        request_id, trace_id = ids
        trace = f',"trace_id":"{trace_id}"' if trace_id else ""
        second, part = divmod(at, 1)
        time = f"{format_second(int(second))}.{int(part * 1e6):06}Z"
        line = f'"time":"{time}","duration":{seconds:.6f},"request_id":"{request_id}"'
        # The end of the line is the same for all requests with this outcome.
        ending = self._endings.get((outcome, model_version, tenant))
        if ending is None:
            fields = {"model_version": model_version} | describe_outcome(outcome)
            ending = json_line(fields | ({"tenant": tenant} if tenant else {}))[1:]
            self._endings[outcome, model_version, tenant] = ending
        return b"{" + f"{line}{trace},".encode("ascii") + ending


def capture_logging(log: Log) -> None:
    """Send Python's logging, its warnings and crashes through the log."""
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
    """Return the level of the line: debug for probes, warning for a 5xx, else info."""
    route, _, status = outcome
    if route in UNLIMITED:
        return logging.DEBUG
    return logging.INFO if status < 500 else logging.WARNING


@lru_cache(maxsize=8)
def format_second(at: int) -> str:
    """Format seconds since the epoch as RFC 3339 in UTC, without the zone."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def describe_outcome(outcome: Outcome) -> Fields:
    """Return the fields that all requests with this outcome share."""
    route, method, status = outcome
    return {
        "level": logging.getLevelName(level_of(outcome)).lower(),
        "logger": "serving.access",
        "message": f"{method} {route} {status}",
        "method": method,
        "route": route,
        "status": status,
    }


def describe_ids(ids: Ids | None) -> Fields:
    """Return the ids as fields of a line."""
    if ids is None:
        return {}
    request_id, trace_id = ids
    return {"request_id": request_id} | ({"trace_id": trace_id} if trace_id else {})


def describe_record(record: logging.LogRecord) -> Fields:
    """Return a record of Python's logging as the fields of a line."""
    fields: Fields = {
        "time": datetime.fromtimestamp(record.created, UTC),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
        **describe_ids(current_ids.get()),
    }
    fields |= {key: vars(record)[key] for key in vars(record).keys() - _STANDARD}
    if record.exc_info:
        fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
    return fields


def json_line(fields: Fields) -> bytes:
    """Format fields as a line of JSON, with times in RFC 3339."""
    line: bytes
    try:
        line = to_json(fields, inf_nan_mode="null", serialize_unknown=True)
    except PydanticSerializationError:  # a lone surrogate is not UTF-8
        line = json.dumps(fields, default=str).encode("ascii")
    return line + b"\n"


def console_line(fields: Fields) -> bytes:
    """Format fields as a line of text, followed by the traceback if there is one."""
    more = "".join(
        f"  {key}={value}" for key, value in fields.items() if key not in _HIDDEN
    )
    at = fields["time"].astimezone()
    line = f"{at:%H:%M:%S} {fields['level']:<8} {fields['message']}{more}\n"
    text: str = line + fields.get("traceback", "")
    return text.encode("utf-8", "backslashreplace")
