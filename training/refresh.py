"""Make the next adapter from the store's traffic, prove it better, and hand it to readers.

  python -m training refresh configs/refresh.yaml
  python -m training refresh configs/refresh.yaml --until gate

Runs collect, prepare, finetune, calibrate, score, rank and evaluate on the traffic of the latest
days; training sees none of the newest hours, on which the new model must be better than the one
that the alias serves now. Then the adapter is loaded, a share of the readers gets it, and once the
anytime-valid interval of /experiments does not contain zero, it is promoted or taken back. All of
that is set in the file. --until gate stops before anything is loaded; run it again without that to
go on.

What was done and decided, and why, is in refresh.json in a folder of --out. After a kill, the same
command goes on with the step that was interrupted. It can be run as often as one likes: it begins
only when there is a day of newer traffic (every_hours). FRONTPAGE_STORE names the database, and
OPENAI_API_KEY is the service's key.
"""

import argparse
import gc
from collections.abc import Sequence
from pathlib import Path

from training.arguments import from_namespace, read_moment
from training.errors import TrainingError
from training.refreshing.options import RefreshOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("config", type=Path, metavar="YAML", help="such as configs/refresh.yaml")
    add("--out", type=Path, default=Path("runs/refresh"), metavar="DIR", help="(runs/refresh)")
    add("--at", type=read_moment, metavar="TIME", help="learn from what was shown before it (now)")
    add("--until", choices=["gate"], help="load nothing")
    no_wait = "look at the experiment once; run it again to look again"
    add("--no-wait", dest="wait", action="store_false", help=no_wait)
    add("--abandon", action="store_true", help="end an unfinished refresh and undo its changes")


def run(given: argparse.Namespace) -> None:
    """Refresh, and print what was decided."""
    options = from_namespace(RefreshOptions, given)
    from training.refreshing.refresh import refresh

    found = refresh(options, run_command)
    if found is None:
        print("nothing to do: the last refresh is younger than every_hours")
    elif found.decision is None:
        print(f"{found.name} shares the readers with {found.served}; it is too early to tell")
    else:
        print(f"{found.name}: {found.decision}: {found.why}")
    if found is not None and found.decision == "passed the gate":
        print("next: the same command without --until gate")


def run_command(command: Sequence[str]) -> None:
    """Run a command of `python -m training` in this process. Raises TrainingError where it fails;
    the command itself has said why."""
    from training.__main__ import INTERRUPTED, main

    code = main(list(command))
    gc.collect()  # models are large
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise TrainingError(f"refresh: the step {command[0]} has failed, see above")
