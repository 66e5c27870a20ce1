"""Run the application in one process with one event loop, and drain before the end.

uvicorn closes its socket as soon as it gets SIGTERM. Kubernetes updates its proxies at
about the same time, so they would still send requests, which would fail. This server
first answers 503 to readiness probes, serves for `drain_seconds`, and then stops.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from serving import logs, traces
from serving.connections import Connections
from serving.memory import Memory
from serving.protocol import Protocol
from serving.requests import Ids, Outcome
from serving.service import Service
from serving.settings import (
    ServingSettings,
    SettingsError,
    SettingsT,
    find_old_host,
    load_settings,
)

logger = logging.getLogger(__name__)

EXIT_UNUSABLE_PORT = 1
EXIT_BAD_SETTINGS = 78  # EX_CONFIG of sysexits.h

# How long threads may still work at the exit.
THREAD_SECONDS = 1.0
# The longest that the process takes to end, after the drain and GRACEFUL_SECONDS.
EXIT_SECONDS = traces.EXIT_SECONDS + logs.EXIT_SECONDS + THREAD_SECONDS

CLOSE = (b"connection", b"close")


class DrainingServer(uvicorn.Server):
    """uvicorn, with `drain_seconds` of service between SIGTERM and its shutdown.

    Its methods override those of
    https://github.com/Kludex/uvicorn/blob/main/uvicorn/server.py
    """

    def __init__(self, config: uvicorn.Config, service: Service[Any]) -> None:
        super().__init__(config)
        self._service = service
        self._memory = Memory()

    async def on_tick(self, counter: int) -> bool:
        """Give memory back once a second while no request is in work."""
        if counter % 10 == 0 and self._service.admission.requests == 0:
            self._memory.give_back()
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain and stop on SIGTERM or Ctrl-C. Stop at once on a second Ctrl-C.

        uvicorn's own method is not called: after the shutdown, uvicorn would raise the
        signal again, and the exit code would not be 0.
        """
        if self._service.lifecycle.phase == "draining":
            self.should_exit = True
            self.force_exit = sig == signal.SIGINT
            return

        takes_traffic = self._service.lifecycle.ready
        self._service.lifecycle.drain()
        if not takes_traffic or self._service.settings.drain_seconds == 0:
            self.should_exit = True
            return

        # Clients with keep-alive connections must reconnect to another pod.
        self.config.encoded_headers.append(CLOSE)  # read by uvicorn every second
        self.server_state.default_headers.append(CLOSE)
        loop = asyncio.get_running_loop()
        loop.call_later(self._service.settings.drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def listen(settings: ServingSettings) -> socket.socket:
    """Bind the port before anything else starts.

    Raises OSError if it is in use, TypeError if the address can be no host's name.
    """
    family = socket.AF_INET6 if ":" in settings.service_host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.service_host, settings.port))
        listener.listen(2048)
    except (OSError, TypeError):
        listener.close()
        raise
    return listener


def format_address(host: str, port: int) -> str:
    """Return an address as it stands in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def connections_of(service: Service[Any]) -> Connections:
    """Return the connections of a service. They count and log invalid requests."""

    def record_response(status: int, request_id: str) -> None:
        outcome = Outcome("unmatched", "other", status)
        service.metrics.record_response(outcome, 0.0)
        version = service.model_version
        service.log.record_response(outcome, 0.0, Ids(request_id, None), version)

    return Connections(
        service.settings, service.metrics.record_connection_end, record_response
    )


def configure(app: FastAPI, service: Service[Any]) -> uvicorn.Config:
    """Return the configuration of uvicorn."""
    return uvicorn.Config(
        app,
        http=partial(Protocol, connections_of(service)),  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        log_config=None,
        log_level=service.settings.log_level,
        proxy_headers=False,  # nothing here uses the client's address
        server_header=False,
        timeout_graceful_shutdown=service.settings.graceful_seconds,
    )


def tune_garbage_collector() -> None:
    """Exempt long-lived objects from garbage collection, and collect less often.

    With Python's defaults, scanning modules and schemas again and again costs a
    twentieth of the request rate.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def end_in_time() -> None:
    """End the process in `THREAD_SECONDS`, even if a thread works on.

    Python waits for the threads of executors, and a call of the model may be long.
    """
    timer = threading.Timer(THREAD_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()


def run(
    create_app: Callable[[SettingsT], FastAPI], settings_class: type[SettingsT]
) -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit code of the process.

    `create_app` builds the application from the settings, which are read from the
    environment.
    """
    try:
        settings = load_settings(settings_class)
        traces.check()
        app = create_app(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_SETTINGS

    try:
        listener = listen(settings)
    except (OSError, TypeError) as error:
        wanted = format_address(settings.service_host, settings.port)
        reason = error.strerror if isinstance(error, OSError) else error
        print(
            f"Cannot listen on {wanted} ({reason}). Choose another address "
            "with SERVICE_HOST or PORT, or stop what uses this one.",
            file=sys.stderr,
        )
        return EXIT_UNUSABLE_PORT

    service: Service[Any] = app.state.service
    service.on_ready = tune_garbage_collector
    logs.capture_logging(service.log)
    host, port = listener.getsockname()[:2]
    if find_old_host():
        logger.warning(
            "HOST=%s is taken for SERVICE_HOST, which it was called before. Rename it: "
            "the next release will ignore HOST.",
            host,
        )
    address = format_address(host, port)
    docs = f"{settings.root_path}/docs"
    service.log.announce(f"Listening on http://{address} (docs: {docs})")
    DrainingServer(configure(app, service), service).run(sockets=[listener])
    end_in_time()
    return 0
