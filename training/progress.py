"""Lines that tell what a long command is doing."""

import sys
import time


def say(text: str) -> None:
    """Print a line to stderr at once, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
