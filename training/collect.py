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
from pathlib import Path

from training.arguments import from_namespace, read_moment
from training.data.options import CollectOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    store = os.environ.get("FRONTPAGE_STORE")
    add, time = parser.add_argument, "shown from this time on, such as 2026-11-14T12:00, in UTC"
    add(
        "--store",
        metavar="URL",
        default=store,
        required=store is None,
        help="of the service's database; default: FRONTPAGE_STORE",
    )
    add("--out", type=Path, default=Path("data/collected"), metavar="DIR")
    add("--from", dest="start", type=read_moment, metavar="TIME", help=f"only what was {time}")
    add("--until", type=read_moment, metavar="TIME", help=f"nothing that was {time}")
    add("--window", type=float, default=1.0, metavar="HOURS", help="to wait for clicks (1)")
    add("--history", type=int, default=50, metavar="N", help="clicked stories kept (50)")


def run(given: argparse.Namespace) -> None:
    """Write the log, and print what it holds."""
    options = from_namespace(CollectOptions, given)
    from training.data.collect import collect

    print(collect(options).summary(options.out))
    print(f"next: python -m training prepare --train {options.out} --out data/own")
