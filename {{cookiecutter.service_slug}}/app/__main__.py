"""Start the service: `python -m app`."""

import signal

from serving.signals import exit_at_once, open_standard_streams

# Before the imports that take seconds: as process 1 of a container, a process never
# sees a signal that it has no handler for.
exit_at_once(signal.SIGTERM, signal.SIGINT)
open_standard_streams()


def main() -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit code."""
    from app.main import create_app
    from app.settings import Settings
    from serving.server import run

    return run(create_app, Settings)


if __name__ == "__main__":
    raise SystemExit(main())
