"""`make docs`: Sphinx reads the Markdown of the whole repository."""

import tomllib
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = ABOUT["name"]
release = ABOUT["version"]
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*"]
html_theme = "furo"
html_title = project
html_copy_source = False
highlight_language = "none"
myst_heading_anchors = 6
suppress_warnings = ["misc.highlighting_failure"]  # examples may leave things out


def add_contents(app: Sphinx, name: str, source: list[str]) -> None:
    """Add a table of contents, by folder, to the page of README.md.

    It is not in the file, because hosts of Git would show its directives as text.
    """
    if name != root_doc:
        return
    folders: dict[str, list[str]] = {}
    for page in sorted(app.env.found_docs - {root_doc}):
        folder = PurePosixPath(page).parent.name
        folders.setdefault(folder or "docs", []).append(page)
    for folder, pages in sorted(folders.items(), key=lambda item: item[0] != "docs"):
        lines = ["", "", "```{toctree}", ":hidden:", f":caption: {folder}", ""]
        source[0] += "\n".join([*lines, *pages, "```", ""])


def add_index(app: Sphinx, error: Exception | None) -> None:
    """Let index.html lead to the README."""
    lead = f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n'
    Path(app.outdir, "index.html").write_text(lead, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what this file adds."""
    app.connect("source-read", add_contents)
    app.connect("build-finished", add_index)
