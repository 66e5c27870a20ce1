"""Start the service: `python -m app`."""

import sys

from app.main import create_app
from app.settings import Settings
from serving.server import run

if __name__ == "__main__":
    sys.exit(run(create_app, Settings))
