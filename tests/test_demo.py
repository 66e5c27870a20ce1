"""The page of the demo in a real browser: predict, and see the label.

It leaves a picture in build/demo.png: `make picture` puts it into the service.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from urllib.request import urlopen

import pytest
from playwright.sync_api import FloatRect, Page, sync_playwright

from tests.conftest import BUILD, Service
from tests.test_remotes import free_port
from tests.test_service import serving

pytestmark = pytest.mark.slow(seconds=30)

OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]

PART: FloatRect = {"x": 0, "y": 105, "width": 700, "height": 795}  # below the toolbar


@contextmanager
def demo(service: Service, url: str) -> Iterator[str]:
    """The page of a service that runs, as `make demo-ui` serves it."""
    port = str(free_port())
    process = subprocess.Popen(
        [str(service.path / ".venv" / "bin" / "python"), "-m", "demo"],
        cwd=service.path,
        env=service.environment() | {"URL": url, "DEMO_PORT": port},
        stdout=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urlopen(f"{address}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        assert process.wait(timeout=30) in (0, -15)


@contextmanager
def browser(asked: list[str]) -> Iterator[Page]:
    """A page of Chromium, which notes the addresses that it asks."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=which("chromium"), args=OPTIONS
        )
        page = chromium.new_page(viewport={"width": 700, "height": 900})
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("websocket", lambda socket: asked.append(socket.url))
        yield page
        chromium.close()


@pytest.mark.skipif(not which("chromium"), reason="chromium is not installed")
def test_a_person_sees_the_label_and_the_page_asks_no_other_host(
    trained: Service,
) -> None:
    asked: list[str] = []
    with serving(trained) as url, demo(trained, url) as address:
        with browser(asked) as page:
            page.goto(address)
            page.get_by_label("text").fill("set a timer for 20 minutes")
            page.get_by_role("button", name="Predict").click()
            label = page.get_by_test_id("stMetricValue").inner_text()
            page.get_by_test_id("stVegaLiteChart").locator(
                "canvas, svg"
            ).first.wait_for()
            page.wait_for_timeout(1_000)  # the bars grow
            BUILD.mkdir(exist_ok=True)
            page.screenshot(path=BUILD / "demo.png", clip=PART)

    assert label == "HassStartTimer"
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
    assert asked and not [one for one in asked if not one.startswith(local)]


def test_the_page_says_how_to_get_streamlit(default: Service, tmp_path: Path) -> None:
    # A directory that hides what is installed.
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name: None if name == 'streamlit' else find(name)\n"
    )

    done = default.run(
        "python", "-m", "demo", check=False, PYTHONPATH=os.fspath(tmp_path)
    )

    assert done.returncode == 1
    assert "make demo-ui installs it" in done.stdout and "Traceback" not in done.stdout
