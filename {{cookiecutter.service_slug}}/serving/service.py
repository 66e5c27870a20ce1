"""The service behind the endpoints: settings, lifecycle, log, metrics and model."""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic

from serving.admission import Admission
from serving.batching import Batcher
from serving.fields import InstanceT
from serving.health import Lifecycle
from serving.logs import Log
from serving.metrics import Metrics
from serving.model import Answer, Model, ModelError
from serving.problems import NOT_READY, unavailable
from serving.settings import ServingSettings

logger = logging.getLogger(__name__)


class Service(Generic[InstanceT]):
    """One model, from its load to the end of the process."""

    def __init__(
        self, settings: ServingSettings, load: Callable[[], Model[InstanceT]]
    ) -> None:
        """`load` returns the model or raises ModelError. It runs in a thread."""
        self.settings = settings
        self.lifecycle = Lifecycle()
        self.log = Log(settings.log_level, for_people=settings.log_format == "console")
        self.metrics = Metrics(
            lambda: self.lifecycle.ready,
            lambda: self.admission.requests,
            lambda: self.log.dropped,
        )
        self.admission = Admission(settings, self.metrics.record_rejection)
        self.model_version: str | None = None
        # Called in the event loop just before the service becomes ready.
        self.on_ready: Callable[[], None] = lambda: None
        self._load_model = load
        self._model: Model[InstanceT] | None = None
        self._batcher: Batcher[InstanceT, Answer] | None = None

    @property
    def model(self) -> Model[InstanceT]:
        """Return the model. Raises ProblemError (503) until it is loaded."""
        if self._model is None:
            raise unavailable(NOT_READY, self.lifecycle.reason)
        return self._model

    @property
    def batcher(self) -> Batcher[InstanceT, Answer]:
        """Return the model's batcher. Raises ProblemError (503) until it is loaded."""
        if self._batcher is None:
            raise unavailable(NOT_READY, self.lifecycle.reason)
        return self._batcher

    def start(self) -> None:
        """Start to load the model in a thread, so that probes are answered.

        The thread is a daemon, so a read that hangs does not delay the exit.
        """
        self.log.start()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._load, args=(loop,), daemon=True).start()

    def stop(self) -> None:
        """Drain, stop the batcher and flush the log."""
        self.lifecycle.drain()
        if self._batcher is not None:
            self._batcher.close()
        self.log.stop()

    def _load(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            model = self._load_model()
        except ModelError as error:
            reason = str(error)
        except Exception as error:
            logger.exception("Loading the model failed unexpectedly.")
            reason = f"Loading the model failed: {type(error).__name__}: {error}"
        else:
            _call_in_loop(loop, self._try_to_serve, model)
            return
        logger.error("Not ready, and will not become ready: %s", reason)
        _call_in_loop(loop, self.lifecycle.fail, reason)

    def _try_to_serve(self, model: Model[InstanceT]) -> None:
        try:
            self._start_serving(model)
        except Exception as error:
            logger.exception("The model was loaded, but cannot be served.")
            self.lifecycle.fail(f"Serving the model failed: {error}")

    def _start_serving(self, model: Model[InstanceT]) -> None:
        budget = self.settings.inline_budget_ms / 1000
        self.metrics.describe_model(model.info, model.training_shares)
        self.model_version = model.version
        self._model = model
        answer = self.metrics.measure_calls(model.answer)
        self._batcher = Batcher(answer, model.expected_seconds, budget)
        self.on_ready()
        self.lifecycle.become_ready()
        logger.info("Ready: model %s, %s", model.version, model.info.task)


def _call_in_loop(
    loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], value: Any
) -> None:
    with suppress(RuntimeError):  # the process ended during the load
        loop.call_soon_threadsafe(function, value)
