"""`python -m tests.serving` starts the toy service."""

import sys

from serving.server import run
from serving.settings import ServingSettings
from tests.serving.toy import create_app

if __name__ == "__main__":
    sys.exit(run(create_app, ServingSettings))
