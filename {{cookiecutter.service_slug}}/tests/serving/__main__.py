"""`python -m tests.serving` starts the toy service."""

import signal

from serving.signals import exit_at_once, open_standard_streams

exit_at_once(signal.SIGTERM, signal.SIGINT)
open_standard_streams()


def main() -> int:
    """Serve as `app/__main__.py` does."""
    from serving.server import run
    from serving.settings import ServingSettings
    from tests.serving.toy import create_app

    return run(create_app, ServingSettings)


if __name__ == "__main__":
    raise SystemExit(main())
