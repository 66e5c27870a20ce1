"""The assembly: what stands around the endpoints."""

from typing import Any

from starlette.middleware.base import BaseHTTPMiddleware

from app.main import create_app
from app.settings import Settings


def test_all_middleware_is_pure_asgi() -> None:
    app = create_app(Settings())
    layer: Any = app.build_middleware_stack()

    while layer is not app.router:
        assert not isinstance(
            layer, BaseHTTPMiddleware
        ), f"{layer.dispatch_func} is slow: write it in pure ASGI (CONTRIBUTING.md)"
        inner = getattr(layer, "_app", None) or getattr(layer, "app", None)
        assert inner, f"{layer}: keep the application inside as `app`, to be found here"
        layer = inner
