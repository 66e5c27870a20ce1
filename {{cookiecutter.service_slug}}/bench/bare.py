"""The bare limit: the same model behind an ASGI function on uvicorn, and no more.

It gives the labels and scores that the service gives, without routing, validation,
batching, limits, ids, metrics or logs: what the service could save at the most. It
must be asked with instances as validation leaves them, since it has none.
"""

import json
import sys
from typing import Any

import uvicorn

from app.contract import Instance
from app.model import Model, ModelError
from app.server import listen
from app.settings import SettingsError, load_settings


def create_app(model: Model) -> Any:
    """The ASGI function around a model."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        instances = [
            Instance.model_construct(**instance)
            for instance in json.loads(body)["instances"]
        ]
        rows = model.predict(instances)
        predictions = [
            {"label": model.labels[best], "score": row[best]}
            for row, best in zip(rows.tolist(), rows.argmax(axis=1), strict=True)
        ]
        answer = {"predictions": predictions, "model_version": model.version}
        content = json.dumps(answer, separators=(",", ":")).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    return app


def main() -> int:
    """Serve until SIGTERM; returns the exit code."""
    try:
        settings = load_settings()
        model = Model.load(settings.model_dir)
    except (SettingsError, ModelError) as error:
        print(error, file=sys.stderr)
        return 1
    listener = listen(settings)
    host, port = listener.getsockname()[:2]
    print(f"Listening on http://{host}:{port}", file=sys.stderr, flush=True)
    config = uvicorn.Config(
        create_app(model),
        access_log=False,
        lifespan="off",
        log_config=None,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
