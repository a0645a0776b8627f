"""A simulated week of a news site on the real service, whose truth is known.

  python -m examples.site --seeds 5 --out runs/site

Invented readers visit for seven days, after a week in which all of them saw a random order. Their
twins see the same candidates in another order: at random, by the language model alone, by the
ranker with live figures, and with --refresh by a model that `training refresh` makes anew each
night. Prints click-through and AUC by day, and writes them to week.json and
week.png. Each seed gets a service of its own with an empty store, started with the settings of the
environment (FRONTPAGE_MODEL and so on); --url names a running one instead. Run again with the same
options, it keeps the seeds that are finished.

A command that is to run between two days, such as one that trains on what the store knows, is given
with --nightly. It finds SITE_URL, SITE_DAY (1 after the first), SITE_FROM and SITE_UNTIL (the day
that is over, in UTC) and FRONTPAGE_STORE in its environment. --arm adds the model that it makes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx

from app.files import write_whole
from examples.replay import ReplayError
from examples.site import figures, picture
from examples.site.nights import ARMS as REFRESHED
from examples.site.nights import CONFIG, Nights
from examples.site.week import ARMS, Arm, Night, Row, simulate
from examples.site.world import Size
from loadtests.services import LoadTestError, clean_up_on_sigterm, free_port, serving


def main() -> int:
    options = parse_options()
    clean_up_on_sigterm()
    rows: list[Row] = []
    try:
        for number in range(options.seeds):
            rows += finished(options, number) or run_seed(options, number)
            write(options, rows, number + 1)
    except (ReplayError, LoadTestError, httpx.HTTPError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(figures.table(figures.summaries(rows)))
    print(f"written: {options.out}/week.json and week.png", file=sys.stderr)
    return 0


def write(options: argparse.Namespace, rows: Sequence[Row], seeds: int) -> None:
    """What is known after so many seeds."""
    found, size = figures.summaries(rows), size_of(options)
    content = {"size": asdict(size), "seeds": seeds, "days": [asdict(one) for one in found]}
    write_whole(options.out / "week.json", json.dumps(content, indent=1))
    title = f"A simulated site, {size.readers} readers an arm, {seeds} seed{'s'[: seeds > 1]}"
    picture.draw(found, options.out / "week.png", title)


def finished(options: argparse.Namespace, number: int) -> list[Row]:
    """What an earlier run with the same options found for this seed, if it came to its end."""
    file = rows_file(options, number)
    if not file.is_file():
        return []
    kept = json.loads(file.read_bytes())
    return [Row(**row) for row in kept["rows"]] if kept["options"] == kept_options(options) else []


def rows_file(options: argparse.Namespace, number: int) -> Path:
    folder: Path = options.out
    return folder / f"rows-{options.seed + number}.json"


def kept_options(options: argparse.Namespace) -> dict[str, object]:
    """What a seed's rows depend on."""
    model, refresh = os.environ.get("FRONTPAGE_MODEL"), options.refresh and str(options.refresh)
    arms = [[name, arm] for name, arm in options.arm]
    nights = {"nightly": options.nightly, "refresh": refresh}
    return {"size": asdict(size_of(options)), "arms": arms, "model": model, **nights}


def run_seed(options: argparse.Namespace, number: int) -> list[Row]:
    seed = options.seed + number
    key = os.environ.get("OPENAI_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    nights = Nights(options.refresh, options.out / f"nights-{seed}") if options.refresh else None
    arms: dict[str, Arm] = {**ARMS, **(REFRESHED if nights else {}), **dict(options.arm)}
    with (
        service(options, seed, nights) as (url, store),
        httpx.Client(base_url=url, headers=headers, timeout=120) as client,
    ):
        nightly = partial(run_nightly, options.nightly, store) if options.nightly else None
        if nights and store:
            nightly = partial(nights.refresh, store)
        rows = simulate(client, seed, size_of(options), arms, nightly)
    kept = {"options": kept_options(options), "rows": [asdict(row) for row in rows]}
    write_whole(rows_file(options, number), json.dumps(kept))
    return rows


@contextmanager
def service(
    options: argparse.Namespace, seed: int, nights: Nights | None
) -> Iterator[tuple[str, str | None]]:
    """The URLs of a service and of its store, if that is known. Raises LoadTestError."""
    if options.url:
        yield options.url, os.environ.get("FRONTPAGE_STORE")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    log, port = options.out / f"service-{seed}.log", free_port()
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/site.sqlite"
        settings = {"PORT": str(port), "STATE": folder, "STORE": store}
        own = {f"FRONTPAGE_{name}": value for name, value in settings.items()}
        own |= nights.settings(os.environ) if nights else {}
        with serving(["app"], {**os.environ, **own}, port, "/ready", log) as (url, _):
            yield url, store


def run_nightly(command: str, store: str | None, night: Night) -> None:
    """Raises ReplayError if the command fails."""
    moments = (datetime.fromtimestamp(at, UTC) for at in (night.start, night.end))
    start, end = (f"{moment:%Y-%m-%dT%H:%M:%S}" for moment in moments)
    given = {"SITE_URL": night.url, "SITE_DAY": str(night.day), "SITE_FROM": start}
    given |= {"SITE_UNTIL": end, **({"FRONTPAGE_STORE": store} if store else {})}
    done = subprocess.run(command, shell=True, env={**os.environ, **given})
    if done.returncode:
        raise ReplayError(f"--nightly ended with {done.returncode} after day {night.day}")


def size_of(options: argparse.Namespace) -> Size:
    given = {name: getattr(options, name) for name in ("readers", "crowd", "days")}
    return Size(**given, poisoned=options.poison)


def arm_option(text: str) -> tuple[str, Arm]:
    name, sign, model = text.partition("=")
    if not (name and sign and model):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=MODEL")
    return name, {"model": model}


def count_option(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return number


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.site",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add, size = parser.add_argument, Size()
    add("--url", help="of a running service with an empty store (default: start one)")
    add("--out", type=Path, default=Path("runs/site"), help="default: %(default)s")
    add("--seeds", type=count_option, default=1, help="how many worlds (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the first world (default: %(default)s)")
    add("--days", type=count_option, default=size.days, help="default: %(default)s")
    readers = "measured readers in each arm (default: %(default)s)"
    add("--readers", type=count_option, default=size.readers, help=readers)
    crowd = "further readers, who see a random order (default: %(default)s)"
    add("--crowd", type=int, default=size.crowd, help=crowd)
    poison = "a day on which every other reader clicks at random (default: none)"
    add("--poison", type=count_option, metavar="DAY", help=poison)
    add("--arm", type=arm_option, action="append", default=[], metavar="NAME=MODEL")
    refresh = f"refresh a model after each day but the last, by FILE ({CONFIG.name} beside this)"
    add("--refresh", type=Path, nargs="?", const=CONFIG, metavar="FILE", help=refresh)
    add("--nightly", metavar="COMMAND", help="run by the shell after each day but the last")
    options = parser.parse_args()
    if options.refresh and (options.url or options.nightly):
        parser.error("--refresh: not together with --url or --nightly")
    if options.url and options.seeds > 1:
        parser.error("--url: a running service has one store, so it takes --seeds 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
