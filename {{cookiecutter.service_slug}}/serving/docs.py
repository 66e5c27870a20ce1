"""The page at /docs: it shows the API, tries it out, and loads nothing from elsewhere.

FastAPI's own page loads Swagger UI from a CDN. The package fastapi-swagger has its
files; nothing else of it is used.
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import (
    get_swagger_ui_html,
    get_swagger_ui_oauth2_redirect_html,
)
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.routing import iter_route_contexts

from serving.routing import find_earlier_match

PAGE = "/docs"
RETURN = f"{PAGE}/oauth2-redirect"  # where a login of OAuth leads back to
ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")
PATHS = frozenset({"/", PAGE, RETURN, *(f"{PAGE}/{name}" for name in ASSETS)})

FOLDER = Path(str(files("fastapi_swagger.resources")))
# Otherwise the page would send the address of the document to a public validator.
PARAMETERS: dict[str, Any] = {"validatorUrl": None}


def add_page(app: FastAPI) -> None:
    """Add the page and its files."""

    async def show(request: Request) -> Response:
        root = prefix(request)
        script, style, icon = (f"{root}{PAGE}/{name}" for name in ASSETS)
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=script,
            swagger_css_url=style,
            swagger_favicon_url=icon,
            oauth2_redirect_url=f"{root}{RETURN}",
            swagger_ui_parameters=PARAMETERS,
        )

    async def return_from_login(request: Request) -> Response:
        return get_swagger_ui_oauth2_redirect_html()

    async def send_asset(request: Request) -> Response:
        return FileResponse(FOLDER / Path(request.scope["path"]).name)

    app.add_route(PAGE, show, include_in_schema=False)
    app.add_route(RETURN, return_from_login, include_in_schema=False)
    for name in ASSETS:
        app.add_route(f"{PAGE}/{name}", send_asset, include_in_schema=False)


def redirect_root(app: FastAPI) -> None:
    """Redirect `GET /` to the page, unless a route of yours takes it."""
    app.add_route("/", redirect, include_in_schema=False)


async def redirect(request: Request) -> Response:
    """Redirect to the page."""
    return RedirectResponse(f"{prefix(request)}{PAGE}")


def is_root_yours(app: FastAPI) -> bool:
    """Return whether a route of yours takes `GET /`."""
    routes = iter_route_contexts(app.routes)
    yours = [route for route in routes if route.endpoint is not redirect]
    return bool(find_earlier_match("/", "GET", yours))


def prefix(request: Request) -> str:
    """Return the prefix that a proxy has removed from the path."""
    return str(request.scope.get("root_path", "")).rstrip("/")
