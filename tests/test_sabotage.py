"""Break the service on purpose: the check that guards it must go red.

That the guards are green otherwise, `make test` and `make lint` of the unbroken service
show (tests/test_service.py and tests/test_generation.py).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Forks, Service, copy, make_once
from tests.test_engine import add_engine_tests
from tests.test_service import edit

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Sabotage:
    """A change of one file, and the command that must fail because of it."""

    file: str
    old: str
    new: str
    guard: str


SABOTAGE = {
    "a value that is converted silently": Sabotage(
        "training/values.py",
        "        strict=True, frozen=True",
        "        strict=False, frozen=True",
        "pytest tests/training/test_config.py -k unusable_value",
    ),
    "an edit of what is composed that is lost": Sabotage(
        "training/compose.py",
        "    if edits:\n",
        "    if False:\n",
        "pytest tests/training/test_config.py -k an_edit",
    ),
    "rows of another contract between the stages": Sabotage(
        "training/rows.py",
        "    if list(rows.columns) != wanted:",
        "    if False:",
        "pytest tests/training/test_data.py -k a_stage_refuses",
    ),
    "a column that is judged otherwise than its contract": Sabotage(
        "training/validation.py",
        '    if "lt" in rules:',
        "    if False:",
        "pytest tests/training/test_validation.py -k known_cells",
    ),
    "rows in another order": Sabotage(
        "training/validation.py",
        "order = np.argsort(np.concatenate([np.flatnonzero(plain), places]))",
        "order = np.arange(len(rows))",
        "pytest tests/training/test_validation.py -k known_cells",
    ),
    "a validator that is not heard": Sabotage(
        "training/validation.py",
        '        is_plain &= schema["type"] in PASSED or has_added_check(schema)\n',
        "",
        "pytest tests/training/test_validation.py -k whole_row",
    ),
    "a column of the name of another": Sabotage(
        "training/tables.py",
        "    if repeated:\n",
        "    if False:\n",
        "pytest tests/training/test_data.py -k unusable_file",
    ),
    "a file that a stage imports and DVC does not know": Sabotage(
        "dvc.yaml",
        "      - training/gate.py\n      - training/schema.py\n",
        "      - training/schema.py\n",
        "pytest tests/training/test_dvc.py -k files_that_it_imports",
    ),
    "a failing job that stops a sweep": Sabotage(
        "training/stage.py",
        "        if not in_sweep():\n            sys.exit(1)\n",
        "        sys.exit(1)\n",
        "pytest tests/training/test_runs.py -k failing_job",
    ),
    "labels read as mathematics": Sabotage(
        "training/report.py",
        'plt.rcParams["text.parse_math"] = False',
        "",
        "pytest tests/training/test_report.py -k labels_are_text",
    ),
    "tensors of more rows than a request may have": Sabotage(
        "serving/tensors.py",
        "if not 1 <= len(values) <= self._max_rows:",
        "if False:",
        "pytest tests/serving/test_inference.py -k where_why",
    ),
    "a binary request read as JSON": Sabotage(
        "serving/inference.py",
        "if (length := headers.get(BINARY_HEADER)) is not None:",
        "if False:\n            length = b''",
        "pytest tests/serving/test_inference.py -k binary_request",
    ),
    "problems that standard clients cannot read": Sabotage(
        "serving/problems.py",
        'if path != V2 and not path.startswith(f"{V2}/"):',
        "if True:",
        "pytest tests/serving/test_inference.py -k have_no_error",
    ),
    "logits served as probabilities": Sabotage(
        "adopt/convert.py",
        "    if is_shares:\n",
        "    if True:\n",
        "pytest tests/adopt/test_model.py -k refused_with",
    ),
    "a value that the model does not know, and a 500": Sabotage(
        "serving/model.py",
        "if (first := self._find_failing(instances)) is None:",
        "if (first := None) is None:",
        "pytest tests/serving/test_readiness.py -k fails_alone",
    ),
    "ready without a model": Sabotage(
        "serving/health.py",
        "if not lifecycle.ready:",
        "if False:",
        "pytest tests/serving/test_readiness.py",
    ),
    "a field that no model reads": Sabotage(
        "serving/fields.py",
        'case "string" if "format" not in one:',
        'case "string":',
        "pytest tests/training/test_models.py -k no_model_reads",
    ),
    "a number that float32 cannot hold": Sabotage(
        "serving/contract.py",
        '            _bound_numbers(field["schema"], resolve)\n',
        "            pass\n",
        "pytest tests/serving/test_fields.py -k float32",
    ),
    "a gap that serving reads as another number": Sabotage(
        "serving/fields.py",
        "array = np.array(values, dtype=dtype or np.float32)",
        "array = np.nan_to_num(np.array(values, dtype=dtype or np.float32), nan=-1)",
        "pytest tests/serving/test_fields.py -k missing",
    ),
    "gaps that are not marked": Sabotage(
        "training/columns.py",
        "if gaps and self.mark_gaps:",
        "if False:",
        "pytest tests/training/test_models.py -k told_from_the_median",
    ),
    "a test of the past": Sabotage(
        "training/splits.py",
        "(rows[TIME] >= begin)",
        "(rows[TIME] < begin)",
        "pytest tests/training/test_models.py -k latest",
    ),
    "rows of a group on both sides": Sabotage(
        "training/splits.py",
        "return rows[GROUP].astype(str).where(has_group(rows), own)",
        "return own",
        "pytest tests/training/test_models.py -k both_sides",
    ),
    "an error that is a floor": Sabotage(
        "training/gate.py",
        "value > bound if name in ERRORS else value < bound",
        "value < bound",
        "pytest tests/training/test_models.py -k ceiling",
    ),
    "a model that is worse than guessing": Sabotage(
        "training/gate.py",
        "if _is_worse(name, scores[name], baseline[name]):",
        "if False:",
        "pytest tests/training/test_models.py -k baseline",
    ),
    "a model without the test rows": Sabotage(
        "training/export.py",
        "    if refitted:\n",
        "    if False:\n",
        "pytest tests/training/test_models.py -k sidecar",
    ),
    "edge cases without gaps": Sabotage(
        "training/export.py",
        "values: list[Any] = [None] if field.optional else []",
        "values: list[Any] = []",
        "pytest tests/training/test_models.py -k extremes",
    ),
    "a label below the threshold": Sabotage(
        "app/api.py",
        "label=None if answer.abstained else answer.label",
        "label=answer.label",
        "pytest tests/app/test_predict.py -k below_the_threshold",
    ),
    "a field of another kind": Sabotage(
        "serving/model.py",
        "if (trained := sidecar.fields.get(name)) != kind:",
        "if (trained := sidecar.fields.get(name)) is None:",
        "pytest tests/serving/test_readiness.py -k bad_model",
    ),
    "values in the wrong tenth": Sabotage(
        "serving/metrics.py",
        "self._values = Histogram(info.deciles[1:-1])",
        "self._values = Histogram(info.deciles[:-2])",
        "pytest tests/serving/test_metrics.py -k tenth",
    ),
    "golden example ignored": Sabotage(
        "serving/model.py",
        "if not worst <= allowed:",
        "if False:",
        "pytest tests/serving/test_readiness.py -k bad_model",
    ),
    "an answer that is no number": Sabotage(
        "serving/model.py",
        "if not np.isfinite(rows).all():",
        "if False:",
        "pytest tests/serving/test_readiness.py -k no_number",
    ),
    "hash ignored": Sabotage(
        "serving/model.py",
        "if found != sidecar.sha256:",
        "if False:",
        "pytest tests/serving/test_readiness.py -k bad_model",
    ),
    "no drain": Sabotage(
        "serving/server.py",
        "if not takes_traffic or self._service.settings.drain_seconds == 0:",
        "if True:",
        "pytest tests/serving/test_process.py -k drains_and_ends",
    ),
    "unready only after the drain": Sabotage(
        "serving/server.py",
        "        self._service.lifecycle.drain()\n",
        "",
        "pytest tests/serving/test_process.py -k drains_and_ends",
    ),
    "nothing is shed": Sabotage(
        "serving/admission.py",
        "self._max_requests = settings.max_concurrency",
        "self._max_requests = 1_000_000",
        "pytest tests/serving/test_process.py -k above_the_limit",
    ),
    "no batching": Sabotage(
        "serving/batching.py",
        "if batch and size + len(inputs) > MAX_BATCH:",
        "if batch:",
        "pytest tests/serving/test_batching.py",
    ),
    "bodies without a limit together": Sabotage(
        "serving/admission.py",
        "while self.bytes + size > self._max_bytes and self.bytes > body.size:",
        "while False:",
        "pytest tests/serving/test_errors.py -k more_bytes",
    ),
    "room that is never given back": Sabotage(
        "serving/admission.py",
        "        self.bytes -= body.size\n",
        "",
        "pytest tests/serving/test_errors.py -k given_back",
    ),
    "all large bodies at once": Sabotage(
        "serving/admission.py",
        "return len(self._holders) < MIN_SLOTS or self._bytes + size <= SMALL_BYTES",
        "return True",
        "pytest tests/serving/test_slots.py -k parses_few",
    ),
    "a turn that is not waited for": Sabotage(
        "serving/admission.py",
        "            await self._wait_for(slot)\n",
        "            pass\n",
        "pytest tests/serving/test_slots.py -k parses_few",
    ),
    "who comes late overtakes": Sabotage(
        "serving/admission.py",
        "if not self._waiting and self._has_room(size):",
        "if self._has_room(size):",
        "pytest tests/serving/test_slots.py -k overtake",
    ),
    "a turn that is lost with who waited for it": Sabotage(
        "serving/admission.py",
        "            self._add(holder, size, now)\n            slot.set",
        "            self._add(slot, size, now)\n            slot.set",
        "pytest tests/serving/test_slots.py -k was_cancelled",
    ),
    "body without a limit": Sabotage(
        "serving/admission.py",
        "if self._total > admission.max_body_bytes:",
        "if False:",
        "pytest tests/serving/test_body.py -k over_the_limit",
    ),
    "an undocumented answer": Sabotage(
        "serving/problems.py",
        "statuses += [400, 408, 413, *unsupported, 422]",
        "statuses += [400, 408, 413, *unsupported]",
        "pytest tests/app/test_openapi.py -k conforms",
    ),
    "a setting documented wrongly": Sabotage(
        "README.md",
        "| `MAX_CONCURRENCY` | `256` |",
        "| `MAX_CONCURRENCY` | `512` |",
        "pytest tests/app/test_settings.py",
    ),
    "a metric renamed": Sabotage(
        "serving/metrics.py",
        '"http_requests_shed_total"',
        '"http_shed_total"',
        "pytest tests/serving/test_metrics.py -k types",
    ),
    "series that grow with the paths": Sabotage(
        "serving/access.py",
        'return getattr(route, "path", UNMATCHED)',
        "return str(path)",
        "pytest tests/serving/test_metrics.py -k no_series",
    ),
    "series that grow with the methods": Sabotage(
        "serving/access.py",
        'method if method in METHODS else "other"',
        "method",
        "pytest tests/serving/test_metrics.py -k no_series",
    ),
    "a crash outside the watch": Sabotage(
        "serving/build.py",
        "        stack = AccessLayer(stack, service, paths)\n",
        "",
        "pytest tests/serving/test_logs.py -k also_an_error",
    ),
    "a thread that crashes beside the log": Sabotage(
        "serving/logs.py",
        "    threading.excepthook = on_thread_crash\n",
        "",
        "pytest tests/serving/test_logs.py -k of_a_thread",
    ),
    "a crash that is no problem document": Sabotage(
        "serving/routing.py",
        "ExceptionMiddleware(fail, handlers), handler=crash)",
        "ExceptionMiddleware(fail, handlers))",
        "pytest tests/serving/test_routing.py -k answered_alike",
    ),
    "a fast path that is lenient": Sabotage(
        "serving/validation.py",
        "validate(body.removeprefix(codecs.BOM_UTF8))",
        "validate(body.removeprefix(codecs.BOM_UTF8), strict=False)",
        "pytest tests/serving/test_contract.py",
    ),
    "a fast path that tells the first mistake only": Sabotage(
        "serving/problems.py",
        "for mistake in mistakes[:MAX_LISTED]",
        "for mistake in mistakes[:1]",
        "pytest tests/serving/test_contract.py",
    ),
    "a body of which a part is lost": Sabotage(
        "serving/routing.py",
        'return b"".join(chunks)',
        "return chunks[0]",
        "pytest tests/serving/test_contract.py -k parts",
    ),
    "middleware that is not pure ASGI": Sabotage(
        "app/main.py",
        "    auth.guard(app,",
        "    from starlette.middleware.base import BaseHTTPMiddleware\n\n"
        "    async def pass_on(request, call_next):\n"
        "        return await call_next(request)\n\n"
        "    app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)\n"
        "    auth.guard(app,",
        "pytest tests/app/test_main.py -k middleware",
    ),
    "an answer in two packets": Sabotage(
        "serving/server.py",
        "        http=partial(Protocol, connections_of(service)),",
        "",
        "pytest tests/serving/test_process.py -k one_packet",
    ),
    "an answer without a body that is kept back": Sabotage(
        "serving/exchange.py",
        "        self.release()\n        self._on_close()",
        "        self._on_close()",
        "pytest tests/serving/test_protocol.py",
    ),
    "an answer that a client loses while it sends": Sabotage(
        "serving/protocol.py",
        "if self._closed_by_client or not may_send:",
        "if True:",
        "pytest tests/serving/test_connection.py -k sends_first",
    ),
    "a client that sends for ever after the last answer": Sabotage(
        "serving/protocol.py",
        "if self._excess > self._settings.linger_bytes:",
        "if False:",
        "pytest tests/serving/test_connection.py -k up_to_a_bound",
    ),
    "a head without a bound": Sabotage(
        "serving/protocol.py",
        "if self._head_bytes > self._settings.max_head_bytes:",
        "if False:",
        "pytest tests/serving/test_connection.py -k without_an_end",
    ),
    "a head that is measured in pieces only": Sabotage(
        "serving/protocol.py",
        "if len(self.url) + fields > settings.max_head_bytes:",
        "if False:",
        "pytest tests/serving/test_connection.py -k however_it_comes",
    ),
    "fields without a number": Sabotage(
        "serving/protocol.py",
        "if len(self.headers) > settings.max_headers:\n            raise",
        "if False:\n            raise",
        "pytest tests/serving/test_connection.py -k too_many_fields",
    ),
    "a head without a time": Sabotage(
        "serving/protocol.py",
        'elif self._place == "head" and age > settings.head_seconds:',
        "elif False:",
        "pytest tests/serving/test_connection.py -k byte_by_byte",
    ),
    "a pipeline without a bound": Sabotage(
        "serving/protocol.py",
        "while position < len(data) and not self._is_full:",
        "while position < len(data):",
        "pytest tests/serving/test_connection.py -k pipeline_is_bounded",
    ),
    "a pipeline of large requests": Sabotage(
        "serving/protocol.py",
        "sum(each.head_bytes + len(each.body) for each in waiting)",
        "0",
        "pytest tests/serving/test_connection.py -k bounded_in_bytes",
    ),
    "a client that is read from though its requests wait": Sabotage(
        "serving/exchange.py",
        "if self.read_paused and not self._reasons:",
        "if self.read_paused:",
        "pytest tests/serving/test_connection.py -k pipeline_is_bounded",
    ),
    "work for a client that takes no answers": Sabotage(
        "serving/protocol.py",
        "self.pipeline or self.flow.write_paused)",
        "self.pipeline)",
        "pytest tests/serving/test_connection.py -k takes_no_answers",
    ),
    "an answer that is never taken": Sabotage(
        "serving/protocol.py",
        "elif unsent and now - self._unsent_since > settings.write_seconds:",
        "elif False:",
        "pytest tests/serving/test_connection.py -k takes_nothing",
    ),
    "connections that are kept for ever": Sabotage(
        "serving/protocol.py",
        "age > settings.keep_alive_seconds",
        "False",
        "pytest tests/serving/test_connection.py -k after_keep_alive_seconds",
    ),
    "connections without a number": Sabotage(
        "serving/connections.py",
        "elif len(self._open) > self.settings.max_connections:",
        "elif False:",
        "pytest tests/serving/test_connection.py -k make_room",
    ),
    "no descriptors for probes": Sabotage(
        "serving/connections.py",
        "if descriptor > self._highest:",
        "if False:",
        "pytest tests/serving/test_connection.py -k descriptors",
    ),
    "a client that sends slowly for ever after the last answer": Sabotage(
        "serving/protocol.py",
        "if age > settings.linger_seconds:",
        "if False:",
        "pytest tests/serving/test_connection.py -k sends_on_after_the_last_answer",
    ),
    "a body that was not asked for and is waited for": Sabotage(
        "serving/protocol.py",
        "            exchange.close_without_body()\n",
        "            pass\n",
        "pytest tests/serving/test_connection.py -k not_asked_for",
    ),
    "garbage that takes the answers before it": Sabotage(
        "serving/protocol.py",
        "if self._active is None and not self.pipeline:\n            self._send",
        "if True:\n            self._send",
        "pytest tests/serving/test_connection.py -k came_before",
    ),
    "a half-closed client that gets no answer": Sabotage(
        "serving/protocol.py",
        "return bool(waiting)",
        "return False",
        "pytest tests/serving/test_connection.py -k closes_its_side",
    ),
    "malformed requests that nobody counts": Sabotage(
        "serving/server.py",
        "        service.metrics.record_response(outcome, 0.0)\n",
        "",
        "pytest tests/serving/test_connection.py -k invalid_http_is_counted",
    ),
    "two hosts of one request": Sabotage(
        "serving/protocol.py",
        'if self._hosts != 1 and (self._hosts or version == "1.1"):',
        "if False:",
        "pytest tests/serving/test_framing.py -k h11",
    ),
    "a request line of another protocol": Sabotage(
        "serving/protocol.py",
        "            text.startswith(HTTP, end)\n",
        "            True\n",
        "pytest tests/serving/test_connection.py -k only_a_request_line",
    ),
    "a request line in the middle of a piece": Sabotage(
        "serving/protocol.py",
        "return piece[: end + 1] or piece",
        "return piece",
        "pytest tests/serving/test_connection.py -k only_a_request_line",
    ),
    "a transfer coding that is not undone": Sabotage(
        "serving/protocol.py",
        'if self._codings and self._codings != [b"chunked"]:',
        "if False:",
        "pytest tests/serving/test_connection.py -k came_before",
    ),
    "a descriptor that is kept": Sabotage(
        "serving/protocol.py",
        "close()\n            return\n        self._lingering",
        "is_closing()\n            return\n        self._lingering",
        "pytest tests/serving/test_framing.py -k thousands",
    ),
    "a signal that comes too early": Sabotage(
        "app/__main__.py",
        "exit_at_once(signal.SIGTERM, signal.SIGINT)\n",
        "",
        "pytest tests/serving/test_process.py -k during_the_imports",
    ),
    "no HEAD where there is GET": Sabotage(
        "serving/methods.py",
        'if method == "HEAD" and',
        "if False and",
        "pytest tests/serving/test_methods.py -k head_is_get",
    ),
    "no OPTIONS": Sabotage(
        "serving/methods.py",
        'if method == "OPTIONS" and',
        "if False and",
        "pytest tests/serving/test_methods.py -k options",
    ),
    "a prefix that the documentation does not know": Sabotage(
        "serving/build.py",
        "    app.root_path = service.settings.root_path",
        "",
        "pytest tests/serving/test_process.py -k strips_a_prefix",
    ),
    "a prefix that is removed twice": Sabotage(
        "serving/build.py",
        "stack = AddPrefix(stack, prefix)",
        "pass",
        "pytest tests/serving/test_docs.py -k whatever_the_prefix",
    ),
    "an empty file that turns the API keys off": Sabotage(
        "serving/settings.py",
        "    check_secrets(settings)\n",
        "",
        "pytest tests/app/test_auth.py -k does_not_turn_them_off",
    ),
    "an address of IPv6 that is no URL": Sabotage(
        "serving/server.py",
        'return f"[{host}]:{port}" if ":" in host else',
        "return",
        "pytest tests/serving/test_process.py -k ipv6",
    ),
    "a platform that is taken for an address": Sabotage(
        "serving/settings.py",
        "    except ValueError:\n        return {}\n",
        "    except ValueError:\n        pass\n",
        "pytest tests/serving/test_process.py -k only_for_an_address",
    ),
    "a bound that is documented wrongly": Sabotage(
        "docs/bounds.md",
        "| `MAX_HEADERS` | `256` |",
        "| `MAX_HEADERS` | `128` |",
        "pytest tests/serving/test_bounds.py",
    ),
    "a bound without a row": Sabotage(
        "docs/bounds.md",
        "| `MAX_HEADERS` | `256` |",
        "| none | 256 |",
        "pytest tests/serving/test_bounds.py",
    ),
    "a client that does not wait and is not paused": Sabotage(
        "serving/protocol.py",
        "self.flow.hold(RETRY)",
        "pass",
        "pytest tests/serving/test_protocol.py -k does_not_wait",
    ),
    "a dependency that is passed by": Sabotage(
        "serving/routing.py",
        "if asked.dependencies:",
        "if False:",
        "pytest tests/serving/test_routing.py -k does_not_do",
    ),
    "a router's dependency that is passed by": Sabotage(
        "serving/routing.py",
        "    asked = route.dependant\n",
        "    asked = route.original_route.dependant\n",
        "pytest tests/serving/test_routing.py",
    ),
    "middleware that is passed by": Sabotage(
        "serving/build.py",
        "in reversed(self.user_middleware):",
        "in ():",
        "pytest tests/serving/test_routing.py -k middleware",
    ),
    "one bad request that fails its batch": Sabotage(
        "serving/batching.py",
        "            return [self._outcomes([one], one[0])[0] for one in batch]",
        "            return [error] * len(batch)",
        "pytest tests/serving/test_batching.py -k fails_alone",
    ),
    "a lone request that waits": Sabotage(
        "serving/batching.py",
        "self._batched = len(batch) > 1",
        "self._batched = True",
        "pytest tests/serving/test_batching.py -k alone",
    ),
    "spans without a route": Sabotage(
        "serving/build.py",
        '"traces are on" if self._is_traced else ""',
        '""',
        "pytest tests/serving/test_traces.py -k span_of",
    ),
    "no spans": Sabotage(
        "serving/build.py",
        "stack is None or self._is_traced:",
        "stack is None:",
        "pytest tests/serving/test_traces.py -k span_of",
    ),
    "slow bodies without a deadline": Sabotage(
        "serving/admission.py",
        "if self._started or ARRIVED not in self.scope:",
        "if self._started:",
        "pytest tests/serving/test_body.py -k counts_as_in_flight",
    ),
    "no training shares": Sabotage(
        "training/export.py",
        "float((truth == label).mean())",
        "1 / len(labels)",
        "pytest tests/training/test_models.py -k sidecar",
    ),
    "the text of a request in the log": Sabotage(
        "app/api.py",
        "if settings.log_texts:",
        "if True:",
        "pytest tests/app/test_predict.py -k logged_only",
    ),
    "the text of a request in a traceback": Sabotage(
        "serving/contract.py",
        "hide_input_in_errors=True",
        "hide_input_in_errors=False",
        "pytest tests/serving/test_logs.py -k to_itself",
    ),
    "request ids on good answers only": Sabotage(
        "serving/access.py",
        '                message["headers"] =',
        '                if status < 400:\n                    message["headers"] =',
        "pytest tests/serving/test_logs.py -k also_an_error",
    ),
    "any request id is taken": Sabotage(
        "serving/access.py",
        "if given is not None and _is_valid_id(given):",
        "if given is not None:",
        "pytest tests/serving/test_logs.py -k is_replaced",
    ),
    "a log lost at shutdown": Sabotage(
        "serving/logs.py",
        "        self._wake.set()\n        self.flush()\n",
        "        os.close(STDERR)\n",
        "pytest tests/serving/test_logs.py -k lost_on_sigterm",
    ),
    "a log that is always late": Sabotage(
        "serving/logs.py",
        "FLUSH_SECONDS = 0.1",
        "FLUSH_SECONDS = 60.0",
        "pytest tests/serving/test_logs.py -k wait_for_the_next",
    ),
    "an error that waits": Sabotage(
        "serving/logs.py",
        "at_once=record.levelno >= logging.ERROR",
        "at_once=False",
        "pytest tests/serving/test_logs.py -k written_at_once",
    ),
    "a log of lines that are no JSON": Sabotage(
        "serving/server.py",
        "        log_config=None,\n",
        "",
        "pytest tests/serving/test_logs.py -k lost_on_sigterm",
    ),
    "a trace of its own for every request": Sabotage(
        "serving/traces.py",
        '"tracing": True,',
        '"tracing": False,',
        "pytest tests/serving/test_traces.py -k callers_trace",
    ),
    "traces that cannot be sent": Sabotage(
        "serving/server.py",
        "        traces.check()\n",
        "",
        "pytest tests/serving/test_process.py -k end_with_78",
    ),
    "another tokeniser in ONNX": Sabotage(
        "training/export.py",
        '{"tokenexp": text.token_pattern}',
        '{"tokenexp": "[a-z]+"}',
        "python -m training experiment=debug",
    ),
    "a time stamp in the model": Sabotage(
        "training/export.py",
        "model.opset_import.extend(opsets)",
        "model.opset_import.extend(opsets)\n"
        "    model.doc_string = datetime.now().isoformat()",
        "pytest tests/training/test_pipeline.py -k same_model_bytes",
    ),
    "a config that changes nothing": Sabotage(
        "training/conf/experiment/chinese.yaml",
        "# @package _global_",
        "# no package",
        "pytest tests/training/test_config.py -k every_config_file",
    ),
    "bodies without a time limit": Sabotage(
        "serving/admission.py",
        "Deadline(settings.body_seconds)",
        "Deadline(3600)",
        "pytest tests/serving/test_process.py -k not_arrive",
    ),
    "a time limit for the first bodies only": Sabotage(
        "serving/admission.py",
        "                self._check_at(due, loop)\n                return\n",
        "                return\n",
        "pytest tests/serving/test_process.py -k not_arrive",
    ),
    "a stage that is not there": Sabotage(
        "dvc.yaml",
        "python -m training.export",
        "python -m training.publish",
        "pytest tests/training/test_dvc.py",
    ),
    "a parameter that DVC does not watch": Sabotage(
        "dvc.yaml",
        "[data, seed, split]",
        "[data, seed]",
        "pytest tests/training/test_dvc.py",
    ),
    "training code in the service": Sabotage(
        "serving/container.py",
        "import math\n",
        "import math\n\nimport training  # noqa: F401\n",
        "lint-imports",
    ),
    "a probe that asks for nothing": Sabotage(
        "deploy/base/deployment.yaml",
        "path: /readyz,",
        "path: /ready,",
        "pytest tests/deploy/test_deployment.py -k probe_asks",
    ),
    "a readiness probe that asks for liveness": Sabotage(
        "deploy/base/deployment.yaml",
        "path: /readyz,",
        "path: /livez,",
        "pytest tests/deploy/test_pods.py -k wrong_model",
    ),
    "a health check that asks for nothing": Sabotage(
        "Dockerfile",
        "8000/readyz",
        "8000/health",
        "pytest tests/deploy/test_deployment.py -k health_check",
    ),
    "a public path that is not there": Sabotage(
        "deploy/components/route/route.yaml",
        "value: /v1}",
        "value: /v3}",
        "pytest tests/deploy/test_deployment.py -k public",
    ),
    "another port": Sabotage(
        "deploy/base/deployment.yaml",
        "containerPort: 8000",
        "containerPort: 8080",
        "pytest tests/deploy/test_deployment.py -k port",
    ),
    "another user": Sabotage(
        "Dockerfile",
        "is not root.\nUSER 10001:10001",
        "is not root.\nUSER 10002:10002",
        "pytest tests/deploy/test_deployment.py -k user",
    ),
    "a variable that is no setting": Sabotage(
        "deploy/base/settings.env",
        "BODY_SECONDS=10",
        "BODY_SECONDS=10\nBODY_MINUTES=1",
        "pytest tests/deploy/test_deployment.py -k variable",
    ),
    "a setting without a place": Sabotage(
        "deploy/base/settings.env",
        "BODY_SECONDS=10\n",
        "",
        "pytest tests/deploy/test_deployment.py -k variable",
    ),
    "a grace period that is too short": Sabotage(
        "deploy/base/deployment.yaml",
        "terminationGracePeriodSeconds: 40",
        "terminationGracePeriodSeconds: 30",
        "pytest tests/deploy/test_deployment.py -k time_to_end",
    ),
    "no preStop": Sabotage(
        "deploy/base/deployment.yaml",
        "sleep: {seconds: 5}",
        "sleep: {seconds: 0}",
        "pytest tests/deploy/test_deployment.py -k time_to_end",
    ),
    "no drain in the cluster": Sabotage(
        "deploy/base/settings.env",
        "DRAIN_SECONDS=5",
        "DRAIN_SECONDS=0",
        "pytest tests/deploy/test_pods.py -k loses_no_request",
    ),
    "a probe that is busy": Sabotage(
        "serving/batching.py",
        "        if inline:\n",
        "        if True:\n",
        "pytest tests/serving/test_batching.py -k beside_it",
    ),
    "requests that hang behind one that has no size": Sabotage(
        "serving/batching.py",
        "            _settle(batch, [error] * len(batch))\n",
        "            raise error\n",
        "pytest tests/serving/test_batching.py -k failing_estimate",
    ),
    "predictions for who has left": Sabotage(
        "serving/admission.py",
        "if LEFT in self.scope or await client_has_left(self._receive):",
        "if False:",
        "pytest tests/serving/test_slots.py -k before_its_turn",
    ),
    "who waits behind one that left": Sabotage(
        "serving/admission.py",
        "        if self._waiting:\n            self._wake()",
        "        if size and self._waiting:\n            self._wake()",
        "pytest tests/serving/test_slots.py -k first_in_line",
    ),
    "a body that is taken for another request": Sabotage(
        "serving/protocol.py",
        "self._replays = parser.should_upgrade()",
        "self._replays = False",
        "pytest tests/serving/test_process.py -k http_2",
    ),
    "a body after a head that is parsed again": Sabotage(
        "serving/protocol.py",
        "error = self._feed(head) or self._feed(rest)",
        "error = self._feed(head)",
        "pytest tests/serving/test_process.py -k http_2",
    ),
    "who does not wait for room and is not paused": Sabotage(
        "serving/admission.py",
        "            scope[REJECTED] = True\n",
        "",
        "pytest tests/serving/test_process.py -k again_at_once",
    ),
    "half a CPU": Sabotage(
        "deploy/base/deployment.yaml",
        'cpu: "1"',
        "cpu: 1500m",
        "pytest tests/deploy/test_deployment.py -k threads",
    ),
    "a stage of its own kind": Sabotage(
        "deploy/overlays/prod/kustomization.yaml",
        "resources:\n",
        "commonAnnotations: {a: b}\nresources:\n",
        "pytest tests/deploy/test_deployment.py -k differ",
    ),
    "a file that the build does not get": Sabotage(
        ".dockerignore",
        "!uv.lock\n",
        "",
        "pytest tests/deploy/test_deployment.py -k dockerignore",
    ),
    "a verb that is not there": Sabotage(
        ".github/workflows/ci.yml",
        "make sbom",
        "make bill",
        "pytest tests/deploy/test_deployment.py -k verb",
    ),
    "a Service that takes the pods of a Job": Sabotage(
        "deploy/base/service.yaml",
        "    app.kubernetes.io/component: server\n  ports",
        "  ports",
        "pytest tests/deploy/test_deployment.py -k no_others",
    ),
    "a spread that some nodes switch off": Sabotage(
        "deploy/base/deployment.yaml",
        "topologyKey: kubernetes.io/hostname",
        "topologyKey: topology.kubernetes.io/zone",
        "pytest tests/deploy/test_deployment.py -k spread",
    ),
    "a disk without room for logs": Sabotage(
        "deploy/base/deployment.yaml",
        "ephemeral-storage: 512Mi",
        "ephemeral-storage: 256Mi",
        "pytest tests/deploy/test_deployment.py -k logs",
    ),
    "a metric with another name": Sabotage(
        "serving/metrics.py",
        '"predictions_total"',
        '"model_predictions_total"',
        "pytest tests/monitoring/test_monitoring.py -k exposes",
    ),
    "a bucket that is not there": Sabotage(
        "serving/metrics.py",
        "0.1, 0.25),\n    *(0.5, 0.75",
        "0.1, 0.2),\n    *(0.5, 0.75",
        "pytest tests/monitoring/test_monitoring.py -k exposes",
    ),
    "a dashboard query without sense": Sabotage(
        "monitoring/dashboard.json",
        "disk_free_bytes{",
        "disk_free_bytes{{",
        "pytest tests/monitoring/test_monitoring.py -k exposes",
    ),
    "a dashboard query for another label": Sabotage(
        "monitoring/dashboard.json",
        'route=~\\"/v1/predict|/v2/models/.*/infer\\"}[5m])))"}\n     ]',
        'path=~\\"/v1/predict|/v2/models/.*/infer\\"}[5m])))"}\n     ]',
        "pytest tests/monitoring/test_monitoring.py -k exposes",
    ),
    "a runbook query for another service": Sabotage(
        "docs/runbook.md",
        'up{job="intent-service"}',
        'up{job="other-service"}',
        "pytest tests/monitoring/test_monitoring.py -k this_service",
    ),
    "a runbook entry that is dropped": Sabotage(
        "docs/runbook.md",
        "## DiskNearlyFull",
        "DiskNearlyFull",
        "pytest tests/monitoring/test_monitoring.py -k one_to_one",
    ),
    "an alert without a case in which it fires": Sabotage(
        "monitoring/alerts_test.yaml",
        'alertname="MemoryNearLimit", alertstate="firing"})\n'
        "        eval_time: 6m\n        exp_samples: [{value: 1}]",
        'alertname="MemoryNearLimit", alertstate="firing"})\n'
        "        eval_time: 6m\n        exp_samples: []",
        "pytest tests/monitoring/test_monitoring.py -k case",
    ),
    "a window of another length": Sabotage(
        "monitoring/alerts.yaml",
        'status=~"5.."}[3d]))',
        'status=~"5.."}[2d]))',
        "pytest tests/monitoring/test_monitoring.py -k window",
    ),
    "an objective stated twice": Sabotage(
        "monitoring/alerts.yaml",
        "> 6 * (1 - slo:availability:target)\n          and job:http_errors:ratio30m",
        "> 6 * (1 - 0.995)\n          and job:http_errors:ratio30m",
        "pytest tests/monitoring/test_monitoring.py -k once",
    ),
    "a threshold that only its words have": Sabotage(
        "monitoring/alerts.yaml",
        "process_memory_limit_bytes > 0.9",
        "process_memory_limit_bytes > 0.95",
        "pytest tests/monitoring/test_monitoring.py -k words",
    ),
    "a document that is stale": Sabotage(
        "monitoring/alerts.yaml",
        "not one instance is ready",
        "no instance is ready",
        "pytest tests/monitoring/test_monitoring.py -k up_to_date",
    ),
    "a metric's meaning that is stale": Sabotage(
        "serving/metrics.py",
        '"Predictions, by label; of a',
        '"What was predicted, by label; of a',
        "pytest tests/monitoring/test_monitoring.py -k up_to_date",
    ),
    "a PodMonitor for another job": Sabotage(
        "monitoring/kubernetes/pod-monitor.yaml",
        "jobLabel: app.kubernetes.io/name",
        "jobLabel: app.kubernetes.io/instance",
        "pytest tests/monitoring/test_monitoring.py -k kubernetes",
    ),
    "an autoscaler that nothing measured": Sabotage(
        "deploy/components/autoscaler/scaling.yaml",
        "averageValue: ",
        "averageValue: 1",
        "pytest tests/bench/test_capacity.py -k deploy_has",
    ),
    "memory that nothing measured": Sabotage(
        "deploy/base/deployment.yaml",
        'limits:\n              cpu: "1"\n              memory: ',
        'limits:\n              cpu: "1"\n              memory: 1',
        "pytest tests/bench/test_capacity.py -k deploy_has",
    ),
    "a result changed by hand": Sabotage(
        "reports/capacity.json",
        '"memory_at_most": ',
        '"memory_at_most": 9',
        "pytest tests/bench/test_capacity.py -k deploy_has",
    ),
    "a rule that is looser": Sabotage(
        "bench/rules.py",
        "MAX_P99 = 0.020",
        "MAX_P99 = 0.600",
        "pytest tests/bench/test_capacity.py -k long_p99",
    ),
    "compose with less memory than a pod": Sabotage(
        "compose.yaml",
        "mem_limit: ",
        "mem_limit: 1",
        "pytest tests/bench/test_capacity.py -k compose",
    ),
    "a report changed by hand": Sabotage(
        "docs/capacity.md",
        "| `averageValue` | `",
        "| `averageValue` | `1",
        "pytest tests/bench/test_capacity.py -k rendered",
    ),
    "another model that nobody mentions": Sabotage(
        "bench/capacity.py",
        "served is None or served[1] == capacity.model_sha256",
        "True",
        "pytest tests/bench/test_capacity.py -k another_model",
    ),
    "a peak of memory at which the alert fires": Sabotage(
        "monitoring/alerts.yaml",
        "process_memory_limit_bytes > 0.9",
        "process_memory_limit_bytes > 0.5",
        "pytest tests/bench/test_capacity.py -k alert",
    ),
    "a type that is wrong": Sabotage(
        "serving/container.py", "-> int:", "-> str:", "mypy"
    ),
    "a size that is not looked at before the body is read": Sabotage(
        "serving/admission.py",
        "        if size > admission.max_body_bytes:\n",
        "        if False:\n",
        "pytest tests/serving/test_errors.py -k five_thousand",
    ),
    "requests that are counted for ever": Sabotage(
        "serving/admission.py",
        "        self.release_bytes(body)\n        if body.in_flight:",
        "        self.release_bytes(body)\n        if False:",
        "pytest tests/serving/test_metrics.py -k in_flight",
    ),
    "a slot that is kept after the answer": Sabotage(
        "serving/admission.py",
        "            self._slots.release(self)\n",
        "            pass\n",
        "pytest tests/serving/test_body.py -k slot",
    ),
    "a slot that never expires": Sabotage(
        "serving/admission.py",
        "            if now - since < SLOT_SECONDS:\n",
        "            if True:\n",
        "pytest tests/serving/test_slots.py -k too_long",
    ),
    "routes with FastAPI's own validation": Sabotage(
        "serving/routing.py",
        "        elif type(route) is APIRoute:\n",
        "        elif False:\n",
        "pytest tests/serving/test_routing.py -k bad_request",
    ),
    "a mounted application with errors of its own": Sabotage(
        "serving/routing.py",
        "elif isinstance(route, Mount) and isinstance(route.app, Starlette):",
        "elif False:",
        "pytest tests/serving/test_routing.py -k bad_request",
    ),
    "a fast path before an earlier route": Sabotage(
        "serving/routing.py",
        "or find_earlier_match(path, method, earlier)",
        "",
        "pytest tests/serving/test_routing.py -k earlier_route",
    ),
    "middleware that crashes without a problem document": Sabotage(
        "serving/access.py",
        "                await problem_response(CRASH)(scope, receive, send_with_id)\n",
        "                pass\n",
        "pytest tests/serving/test_routing.py -k crashes",
    ),
    "a problem of middleware that is a crash": Sabotage(
        "serving/access.py",
        "            await problem_response(error)(scope, receive, send_with_id)\n",
        "            raise\n",
        "pytest tests/serving/test_routing.py -k raise_a_problem",
    ),
    "an API key that is not compared": Sabotage(
        "app/auth.py",
        "if hmac.compare_digest(digest, known):",
        "if True:",
        "pytest tests/app/test_auth.py -k rejected",
    ),
    "a path that asks for no API key": Sabotage(
        "app/auth.py",
        'if scope["path"] in self._public and',
        'if scope["path"] in self._public | {"/v1/model"} and',
        "pytest tests/app/test_auth.py -k rejected",
    ),
    "a body that is read before the API key": Sabotage(
        "app/auth.py",
        "        given = bearer_token(scope)\n",
        "        receive().send(None)\n        given = bearer_token(scope)\n",
        "pytest tests/app/test_auth.py -k does_not_read",
    ),
    "keys that the OpenAPI document does not mention": Sabotage(
        "app/auth.py",
        "    app.document_edits.append(document_keys)\n",
        "",
        "pytest tests/app/test_auth.py -k document",
    ),
    "a metric without its tenant": Sabotage(
        "serving/access.py",
        "self._metrics.record_response(outcome, seconds, tenant)",
        "self._metrics.record_response(outcome, seconds, None)",
        "pytest tests/app/test_auth.py -k is_the_tenant",
    ),
    "a log line without its tenant": Sabotage(
        "serving/access.py",
        "record_response(outcome, seconds, ids, version, tenant)",
        "record_response(outcome, seconds, ids, version, None)",
        "pytest tests/app/test_auth.py -k carries_the_tenant",
    ),
    "a problem type that nobody raises": Sabotage(
        "docs/problems.md",
        "urn:problem-type:client-left",
        "urn:problem-type:client-gone",
        "pytest tests/serving/test_problems.py -k page",
    ),
    "an engine that knows its task": Sabotage(
        "serving/container.py",
        "import math\n",
        "import math\n\nimport app  # noqa: F401\n",
        "lint-imports",
    ),
    "a demo that needs the service's code": Sabotage(
        "demo/ask.py",
        "import sys\n",
        "import sys\n\nimport serving  # noqa: F401\n",
        "lint-imports",
    ),
    "feedback that is stored twice": Sabotage(
        "demo/page.py",
        "state.ids.setdefault(json.dumps(said), str(uuid4()))",
        "str(uuid4())",
        "pytest tests/demo/test_page.py -k sent_once",
    ),
    "a page whose root can be written to": Sabotage(
        "deploy/components/demo/demo.yaml",
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        "pytest tests/deploy/test_demo.py -k restricted",
    ),
    "a candidate that is worse on the test rows": Sabotage(
        "training/promote.py",
        "    if after < before - limits.tolerance:",
        "    if False:",
        "pytest tests/training/test_promote.py -k poison",
    ),
    "marks in any number": Sabotage(
        "serving/text.py",
        "return _maybe_marks.sub(_break_run, text)",
        "return text",
        "pytest tests/serving/test_text.py -k broken",
    ),
    "an answer that grows with the mistakes": Sabotage(
        "serving/problems.py",
        "MAX_LISTED = 100",
        "MAX_LISTED = 100_000",
        "pytest tests/serving/test_errors.py -k first_mistakes",
    ),
    "a large body that is read to the last mistake": Sabotage(
        "serving/validation.py",
        'copy["fail_fast"] = True',
        'copy["fail_fast"] = False',
        "pytest tests/serving/test_errors.py -k first_bad_item",
    ),
    "mistakes that are read in any number": Sabotage(
        "serving/problems.py",
        "if count > MAX_READ:",
        "if False:",
        "pytest tests/serving/test_errors.py -k can_be_listed",
    ),
    "what a client sent, sent back whole": Sabotage(
        "serving/problems.py",
        "MAX_QUOTED = 200",
        "MAX_QUOTED = 200_000",
        "pytest tests/serving/test_errors.py -k comes_back_cut",
    ),
    "a compressed body that is read as JSON": Sabotage(
        "serving/routing.py",
        'if coding and coding.lower() != b"identity":',
        "if False:",
        "pytest tests/serving/test_errors.py -k content_coding",
    ),
    "a byte order mark that is a mistake": Sabotage(
        "serving/validation.py",
        "body.removeprefix(codecs.BOM_UTF8)",
        "body",
        "pytest tests/serving/test_errors.py -k byte_order",
    ),
    "a format of metrics that crashes": Sabotage(
        "serving/metrics.py",
        "except (TypeError, ValueError):",
        "except KeyError:",
        "pytest tests/serving/test_metrics.py -k not_known",
    ),
    "room for what is merely announced": Sabotage(
        "serving/admission.py",
        "            body.in_flight = False\n"
        "            self.requests -= 1\n"
        "        if len(",
        "            pass\n        if len(",
        "pytest tests/serving/test_process.py -k announced",
    ),
    "a body that comes when all is full": Sabotage(
        "serving/admission.py",
        "            raise self._too_many_requests()\n",
        "            pass\n",
        "pytest tests/serving/test_body.py -k come_before",
    ),
    "a stalled body that keeps its room": Sabotage(
        "serving/admission.py",
        "if asyncio.get_running_loop().time() - since < STALL_SECONDS:",
        "if True:",
        "pytest tests/serving/test_body.py -k stalls",
    ),
    "bodies on their way in any number": Sabotage(
        "serving/admission.py",
        "if len(self._arriving) >= self._max_arriving and",
        "if False and",
        "pytest tests/serving/test_body.py -k on_their_way",
    ),
    "a small body that waits for large ones": Sabotage(
        "serving/admission.py",
        "return self._slots[size.bit_length() // 3]",
        "return self._slots[0]",
        "pytest tests/serving/test_slots.py -k wait_for_large",
    ),
    "a short request that waits for long ones": Sabotage(
        "serving/batching.py",
        "limit = max(self._inline_budget, LONG * self._shortest)",
        "limit = math.inf",
        "pytest tests/serving/test_batching.py -k short_request",
    ),
    "a body that is late because the process was stopped": Sabotage(
        "serving/admission.py",
        "if now - when > GRACE_SECONDS:",
        "if False:",
        "pytest tests/serving/test_process.py -k was_stopped",
    ),
    "a log in any number of lines": Sabotage(
        "serving/logs.py",
        "if len(self._waiting) >= MAX_LINES or",
        "if",
        "pytest tests/serving/test_logs.py -k reader_that_stalls",
    ),
    "a log of any size": Sabotage(
        "serving/logs.py",
        "waiting_bytes + len(line) > MAX_BYTES",
        "False",
        "pytest tests/serving/test_logs.py -k large_lines",
    ),
    "an exit that waits for the log": Sabotage(
        "serving/logs.py",
        "self._flusher.join(EXIT_SECONDS)",
        "self._flusher.join()",
        "pytest tests/serving/test_logs.py -k nobody_reads",
    ),
    "a log call that raises": Sabotage(
        "serving/logs.py",
        '        return f"{record.msg} [arguments',
        '        raise\n        return f"{record.msg} [arguments',
        "pytest tests/serving/test_logs.py -k wrong_call",
    ),
    "an exit that waits for the collector": Sabotage(
        "serving/traces.py",
        "thread.join(EXIT_SECONDS)",
        "thread.join()",
        "pytest tests/serving/test_traces.py -k never_answers",
    ),
    "an exit that waits for the model": Sabotage(
        "serving/server.py",
        "    end_in_time()\n    return 0",
        "    return 0",
        "pytest tests/serving/test_process.py -k model_that_never",
    ),
    "a setting that is no number": Sabotage(
        "serving/settings.py",
        "        allow_inf_nan=False,\n",
        "",
        "pytest tests/serving/test_settings.py -k infinite",
    ),
}

FEEDBACK = {
    "a migration that is dropped": Sabotage(
        "feedback/migrations/versions/0001_feedback_and_reviews.py",
        '    op.create_index("ix_feedback_received_at", "feedback", ["received_at"])\n',
        "",
        "pytest tests/feedback/test_database.py -k code[sqlite]",
    ),
    "a column that does not say why it has no index": Sabotage(
        "feedback/tables.py",
        " Index: no, because people read them.",
        "",
        "pytest tests/feedback/test_database.py -k say_all",
    ),
    "an index without a reason": Sabotage(
        "feedback/tables.py",
        '"Deletion by age filters by it; the list of what waits for "\n'
        '                "a review is sorted by it."',
        '""',
        "pytest tests/feedback/test_database.py -k say_all",
    ),
    "an idempotency key that is ignored": Sabotage(
        "feedback/items.py",
        '"id": item.id,',
        '"id": __import__("uuid").uuid4(),',
        "pytest tests/feedback/test_feedback.py -k answered_200[sqlite]",
    ),
    "a correction and its original on two sides of the split": Sabotage(
        "training/corrections.py",
        'self._groups[key] or f"feedback {number}"',
        'f"feedback {number}"',
        "pytest tests/feedback/test_training.py -k takes_its_group",
    ),
    "a tenant that a header names": Sabotage(
        "feedback/plugin.py",
        'request.scope.get(TENANT, "")',
        'request.headers.get("tenant", "")',
        "pytest tests/feedback/test_feedback.py -k the_key[sqlite]",
    ),
    "a tenant that the body names": Sabotage(
        "feedback/items.py",
        "    id: UUID\n",
        "    id: UUID\n    tenant: str | None = None\n",
        "pytest tests/feedback/test_feedback.py -k breaks_the_contract",
    ),
    "an id that another tenant has": Sabotage(
        "feedback/items.py",
        '"tenant": tenant,',
        '"tenant": "",',
        "pytest tests/feedback/test_feedback.py -k the_key[sqlite]",
    ),
    "a migration that is an endpoint of the Service": Sabotage(
        "deploy/base/service.yaml",
        "    app.kubernetes.io/component: server\n  ports:",
        "  ports:",
        "pytest tests/feedback/test_database.py -k no_endpoint",
    ),
    "corrections that are known to no tenant": Sabotage(
        "training/corrections.py",
        'PROVENANCE = {TENANT, "feedback_id", "received_at"}',
        "PROVENANCE = {TENANT}",
        "pytest tests/feedback/test_training.py -k with_their_tenants",
    ),
}


# What decides about the small model that the tests of a service train.
TRAINS = ("training/", "dvc.yaml")


@pytest.fixture(scope="module")
def model(
    default: Service, forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The file that keeps the small model of the unbroken service."""

    def make(directory: Path) -> Service:
        service = copy(default, directory)
        sidecar = ("tests/training/test_models.py", "-k", "sidecar")
        done = forks.pytest(service, *sidecar, model=directory / "model")
        assert done.returncode == 0, done.stdout[-4000:]
        return service

    return make_once(tmp_path_factory, "small", make).path.parent / "model"


@pytest.mark.parametrize("name", SABOTAGE)
def test_the_guard_goes_red(
    default: Service, forks: Forks, model: Path, tmp_path: Path, name: str
) -> None:
    service = copy(default, tmp_path)
    add_engine_tests(service)
    see_red(service, SABOTAGE[name], forks, model)


@pytest.mark.parametrize("name", FEEDBACK)
def test_the_guard_of_feedback_goes_red(
    with_feedback: Service, forks: Forks, model: Path, tmp_path: Path, name: str
) -> None:
    see_red(copy(with_feedback, tmp_path), FEEDBACK[name], forks, model)


def see_red(service: Service, sabotage: Sabotage, forks: Forks, model: Path) -> None:
    """Break the service, and see that the guard goes red."""
    program, *arguments = sabotage.guard.split()

    edit(service, sabotage.file, sabotage.old, sabotage.new)

    if program == "pytest":
        trains = sabotage.file.startswith(TRAINS)
        done = forks.pytest(service, *arguments, model=None if trains else model)
        # An error of a fixture would be no proof.
        assert re.search(r"\d failed", done.stdout), done.stdout[-4000:]
        assert not re.search(r"\d errors?\b", done.stdout), done.stdout[-4000:]
    else:
        done = service.run(program, *arguments, check=False)
    assert done.returncode == 1, done.stdout[-4000:]
