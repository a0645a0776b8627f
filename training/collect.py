"""Write what the service's store remembers as a log that prepare reads.

  python -m training collect --store sqlite:///state/store.sqlite --out data/collected
  python -m training prepare --train data/collected --out data/own

Lists that readers were shown, with what they had clicked before and what they clicked of them;
answers of the service of which nothing was reported are left out. Newer lists than --window wait
for their clicks, and later clicks don't count. The service needs the setting `remember`, or its
answers name no readers and no histories.
"""

import argparse
import os
from datetime import UTC, datetime
from pathlib import Path

from training.errors import TrainingError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add(
        "--store",
        metavar="URL",
        default=os.environ.get("FRONTPAGE_STORE"),
        help="of the service's database; default: FRONTPAGE_STORE",
    )
    add("--out", type=Path, default=Path("data/collected"), metavar="DIR")
    add("--from", dest="start", metavar="TIME", help="what was shown from this time on, in UTC")
    add("--until", metavar="TIME", help="what was shown before this time, in UTC")
    add("--window", type=float, default=1.0, metavar="HOURS", help="to wait for clicks (1)")
    add("--history", type=int, default=50, metavar="N", help="clicked stories kept (50)")


def run(given: argparse.Namespace) -> None:
    """Write the log, and print what it holds."""
    if given.store is None:
        raise TrainingError("--store: name the service's database, or set FRONTPAGE_STORE")
    if given.window < 0 or given.history < 1:
        raise TrainingError("--window must not be below 0, --history not below 1")
    from training.data.collect import CollectOptions, collect

    options = CollectOptions(
        store=given.store,
        out=given.out,
        start=read_time("--from", given.start),
        until=read_time("--until", given.until),
        window_s=given.window * 3600,
        history=given.history,
    )
    print(collect(options).summary(options.out))
    print(f"next: python -m training prepare --train {options.out} --out data/own")


def read_time(flag: str, text: str | None) -> float | None:
    """Seconds since 1970. Raises TrainingError for what is no time."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TrainingError(f"{flag} {text}: write 2026-11-14 or 2026-11-14T12:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
