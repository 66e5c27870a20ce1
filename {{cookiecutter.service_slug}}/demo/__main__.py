"""Start the page of the demo: `make demo-ui`.

DEMO_HOST and DEMO_PORT say where it listens. It sends nothing to others, and a page
needs no host but its own.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

SETTINGS = {
    "server.headless": "true",  # ask for no e-mail address, open no browser
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "minimal",
    "client.showErrorDetails": "none",
    "server.fileWatcherType": "none",
}


def command() -> list[str]:
    """Return the command that serves the page."""
    settings = {
        "server.address": os.environ.get("DEMO_HOST") or "127.0.0.1",
        "server.port": os.environ.get("DEMO_PORT") or "8501",
        **SETTINGS,
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    return [sys.executable, "-m", "streamlit", "run", "demo/page.py", *options]


def main() -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit code."""
    if find_spec("streamlit") is None:
        print("Streamlit is not installed: make demo-ui installs it.", file=sys.stderr)
        return 1
    start = command()
    if sys.platform != "win32":  # one process: signals reach it
        os.execv(start[0], start)
    return subprocess.run(start).returncode


if __name__ == "__main__":
    sys.exit(main())
