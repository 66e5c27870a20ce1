"""Prepare a process that starts: for signals, and for streams that are closed.

This module imports nothing that takes time: it comes before all others.
"""

import os
import signal
from types import FrameType


def exit_at_once(*signals: signal.Signals) -> None:
    """Exit with 0 on these signals, until the server handles them.

    Nothing has been accepted by then, and nothing is left to be written. An exception
    would not do: what is imported may catch it.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(0)

    for each in signals:
        signal.signal(each, leave)


def open_standard_streams() -> None:
    """Open `os.devnull` in place of each standard stream that is closed (`2>&-`).

    Otherwise a socket would get the descriptor, and a client the lines of the log.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            lowest_free = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(lowest_free, True)
