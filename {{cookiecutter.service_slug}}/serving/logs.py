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
from datetime import UTC, datetime
from functools import lru_cache
from time import sleep, time
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from serving.requests import UNLIMITED, Ids, Outcome, current_ids

STDERR = 2
FLUSH_SECONDS = 0.1
EXIT_SECONDS = 1.0  # how long the exit waits for stderr
MAX_LINES = 10_000  # that wait for stderr
MAX_BYTES = 8_388_608  # of these lines; those of requests are short and do not count
MAX_TEXT = 32_768  # characters of a message or a traceback

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

    Between `start` and `stop`, a thread writes the lines after at most `FLUSH_SECONDS`,
    those of errors at once. No other thread waits for stderr: while it takes nothing,
    lines are buffered up to a limit, and dropped and counted beyond it. Before `start`
    and after `stop`, every line is written at once by a thread, for which the caller
    waits at most `EXIT_SECONDS`.
    """

    def __init__(self, level: str, *, for_people: bool = False) -> None:
        super().__init__(level.upper())
        self._for_people = for_people
        self._endings: dict[tuple[Outcome, str | None, str | None], bytes] = {}
        self._waiting: deque[bytes | Response] = deque()
        # The lock of the handler (`acquire`) guards these two.
        self._bytes_added = 0
        self._lines_dropped = 0
        self._buffered = False
        self._stopped = threading.Event()
        self._wake = threading.Event()
        # Guards all that follows. It is held while stderr is written to, so between
        # `start` and `stop` only the thread that writes takes it.
        self._writing = threading.Lock()
        self._bytes_taken = 0
        self._lines_lost = 0
        self._reported = 0  # of the dropped lines
        self._torn = False  # the last write ended within a line
        self._flusher: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Return how many lines were dropped, or lost by a failing write."""
        return self._lines_dropped + self._lines_lost

    def start(self) -> None:
        """Start to buffer lines."""
        self._buffered = True
        self._stopped.clear()
        threading.Thread(target=self._write_often, daemon=True).start()

    def stop(self) -> None:
        """Flush the buffer, and write each further line at once."""
        self._buffered = False
        self._stopped.set()
        self._wake.set()
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

        Lines are formatted by the thread: many in a row take half the time.
        """
        if len(self._waiting) >= MAX_LINES:
            self.acquire()
            self._lines_dropped += 1
            self.release()
            return
        self._waiting.append((time(), outcome, seconds, ids, model_version, tenant))
        if not self._buffered:
            self.flush()

    def announce(self, message: str) -> None:
        """Write a line regardless of LOG_LEVEL."""
        fields = {"level": "info", "logger": "serving", "message": message}
        self.acquire()
        self._add(self._line({"time": datetime.now(UTC), **fields}), at_once=True)
        self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record of Python's logging."""
        try:
            line = self._line(describe_record(record))
        except Exception as error:  # a value that contains itself, for example
            line = self._line(describe_failure(record, error))
        self._add(line, at_once=record.levelno >= logging.ERROR)

    def flush(self) -> None:
        """Write the buffered lines. Once this has timed out, do not wait again."""
        if self._flusher and self._flusher.is_alive():
            return
        self._flusher = threading.Thread(target=self._write, daemon=True)
        try:
            self._flusher.start()
        except RuntimeError:  # Python is ending, and starts no threads any more
            self._write()
            return
        self._flusher.join(EXIT_SECONDS)

    def _add(self, line: bytes, *, at_once: bool) -> None:
        """Buffer a line. The caller holds the lock of the handler."""
        waiting_bytes = self._bytes_added - self._bytes_taken
        if len(self._waiting) >= MAX_LINES or waiting_bytes + len(line) > MAX_BYTES:
            self._lines_dropped += 1
            return
        self._bytes_added += len(line)
        self._waiting.append(line)
        if not self._buffered:
            self.flush()
        elif at_once:
            self._wake.set()

    def _write_often(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(FLUSH_SECONDS)
            self._wake.clear()
            self._write()

    def _write(self) -> None:
        """Write the buffered lines, however long stderr takes."""
        with self._writing:
            rest = self._take()
            while rest:
                rest = rest[self._write_some(rest) :]

    def _write_some(self, data: memoryview) -> int:
        """Write, and return the number of bytes that are written or lost."""
        try:
            written = os.write(STDERR, data)
        except BlockingIOError:  # another process has made stderr non-blocking
            sleep(FLUSH_SECONDS)
            return 0
        except OSError:  # it is closed, or the disk is full
            self._lines_lost += bytes(data).count(b"\n")
            return len(data)
        self._torn = data[written - 1] != ord("\n")
        return written

    def _take(self) -> memoryview:
        """Take the buffered lines, and return their bytes."""
        # Other threads may append meanwhile; deques are thread-safe.
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        given = [line for line in batch if isinstance(line, bytes)]
        self._bytes_taken += sum(map(len, given))
        lines = [
            line if isinstance(line, bytes) else self._response_line(*line)
            for line in batch
        ]
        if lines and self.dropped > self._reported:
            lines.append(self._report(self.dropped - self._reported))
            self._reported = self.dropped
        if lines and self._torn:
            lines.insert(0, b"\n")
        return memoryview(b"".join(lines))

    def _report(self, count: int) -> bytes:
        message = f"{count} log lines were dropped: stderr did not take them in time."
        fields = {"level": "warning", "logger": __name__, "message": message}
        return self._line({"time": datetime.now(UTC), **fields})

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
        "message": cut(format_message(record)),
        **describe_ids(current_ids.get()),
    }
    fields |= {key: vars(record)[key] for key in vars(record).keys() - _STANDARD}
    if record.exc_info:
        lines = traceback.format_exception(*record.exc_info)
        fields["traceback"] = cut("".join(lines))
    return fields


def format_message(record: logging.LogRecord) -> str:
    """Return the message of a record, also if its arguments do not fit its format."""
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg} [arguments that do not fit: {error}]"


def describe_failure(record: logging.LogRecord, error: Exception) -> Fields:
    """Return the line that takes the place of a record that cannot be formatted."""
    return {
        "time": datetime.fromtimestamp(record.created, UTC),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": f"A line of {record.filename}:{record.lineno} cannot be written: "
        f"{type(error).__name__}.",
    }


def cut(text: str) -> str:
    """Return a text without its middle if it is longer than `MAX_TEXT`."""
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]} … {text[-half:]}"


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
