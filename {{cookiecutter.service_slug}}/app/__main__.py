"""`python -m app` starts the service."""

import sys

from app.server import run

if __name__ == "__main__":
    sys.exit(run())
