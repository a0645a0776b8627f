"""Lines that tell what a long command is doing, and which process says them."""

import os
import sys
import time


def say(text: str) -> None:
    """Print a line to stderr at once, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def is_first_process() -> bool:
    """Whether this is the first of the processes that share the work, or the only one."""
    return os.environ.get("RANK", "0") == "0"
