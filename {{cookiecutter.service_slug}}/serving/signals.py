"""End the process on a signal while it is still starting.

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
