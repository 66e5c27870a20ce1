"""What the endpoints stand on: settings, life, log, metrics and model."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from app.batching import Batcher
from app.deadline import Deadline
from app.lifecycle import Lifecycle
from app.logs import Log
from app.metrics import Metrics
from app.model import Model, ModelError
from app.problems import unavailable
from app.settings import Settings
from app.turns import Turns

logger = logging.getLogger(__name__)


class Service:
    """One model, from its loading to the end of the process."""

    def __init__(
        self, settings: Settings, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        """`on_ready` is called in the event loop just before it takes traffic."""
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.log = Log(settings)
        self.metrics = Metrics(lambda: self.lifecycle.ready)
        self.model_version: str | None = None
        self.bytes_in_work = 0
        self.body_deadline = Deadline(settings.body_seconds)
        self.turns = Turns()
        self._on_ready = on_ready
        self._model: Model | None = None
        self._batcher: Batcher | None = None

    @property
    def model(self) -> Model:
        """The model; a problem (503) while there is none."""
        if self._model is None:
            raise unavailable(self.lifecycle.reason)
        return self._model

    @property
    def batcher(self) -> Batcher:
        """The way to the model's predictions; a problem (503) while there is none."""
        if self._batcher is None:
            raise unavailable(self.lifecycle.reason)
        return self._batcher

    def take_room(self, size: int) -> bool:
        """Count a body as in work, until its size is taken off `bytes_in_work` again.

        False if there are too many bytes already. A body that is alone has room.
        """
        most = self.settings.max_bytes_in_work
        if self.bytes_in_work and self.bytes_in_work + size > most:
            self.metrics.shed()
            return False
        self.bytes_in_work += size
        return True

    def start(self) -> None:
        """Begin to load the model beside the event loop, so that probes are answered.

        The thread is a daemon: a read that hangs must not outlive SIGTERM.
        """
        self.log.start()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._load, args=(loop,), daemon=True).start()

    def stop(self) -> None:
        """End what `start` began."""
        self.lifecycle.drain()
        if self._batcher is not None:
            self._batcher.close()
        self.log.stop()

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            model = Model.load(self.settings.model_dir)
        except ModelError as error:
            reason = str(error)
        except Exception as error:
            logger.exception("Loading the model failed in an unexpected way.")
            reason = f"Loading the model failed: {type(error).__name__}: {error}"
        else:
            _call(loop, self._serve, model)
            return
        logger.error("Not ready, and will not be: %s", reason)
        _call(loop, self.lifecycle.fail, reason)

    def _serve(self, model: Model) -> None:
        budget = self.settings.inline_budget_ms / 1000
        self.metrics.serves(model)
        self.model_version = model.version
        self._model = model
        classify = self.metrics.timed(model.classify)
        self._batcher = Batcher(classify, model.expected_seconds, budget)
        self._on_ready()
        self.lifecycle.become_ready()
        logger.info("Ready: model %s, %d labels", model.version, len(model.labels))


def _call(
    loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], value: Any
) -> None:
    with suppress(RuntimeError):  # the process ended while the model was loading
        loop.call_soon_threadsafe(function, value)
