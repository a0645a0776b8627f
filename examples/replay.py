"""Replay a click log against a running service, as if it happened today.

  python -m training prepare --train MIND/train --val-from 2019-11-14 --out data/mind
  python -m examples.replay --data data/mind --since 2019-11-14T10:00 --impressions 500

The stories are sent first (PUT /stories), then the log in the order of time: what was shown and
clicked (POST /events), and before that, for impressions to be measured, /rank with what was known
then. Prints AUC and nDCG by hour, with the ranker and by the language model alone. With --only-tell
nothing is ranked; the readers' histories are told too, as clicks of the day before, so that the
store holds what a site's would, for `training collect` and `refresh`. All times are
moved by whole days, so that the log ends within the last 24 hours. Start the service with an empty
store (FRONTPAGE_STATE=/some/new/folder). If it requires keys, set OPENAI_API_KEY to one with the
scopes `events` and `admin`.
"""

import argparse
import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from training import metrics
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.ranking.log import KEY

AT_ONCE = 5000
"""How many stories or events one request sends."""
DAY_S = 86400
WAIT_S = 60.0
COUNTER = "frontpage_live_events_total{"
ROUNDS, SEED = 1000, 0
KINDS = {"text_probability": "text alone", "probability": "ranker"}
Json = dict[str, Any]


@dataclass(frozen=True)
class LogRow:
    """One impression of the log; stories are indices. key: tells it from all others."""

    key: str
    user: str
    time: datetime
    history: list[int]
    liked: list[int]
    disliked: list[int]
    candidates: list[int]
    clicked: list[bool] | None

    @property
    def seconds(self) -> float:
        """Unix time; the log's times are taken for UTC."""
        return self.time.replace(tzinfo=UTC).timestamp()


class ReplayError(Exception):
    """The replay can't go on; the message says why."""


@dataclass
class Site:
    """Tells a service what happened, and asks it. ids, categories: of stories by index. shift:
    seconds to add to all times."""

    client: httpx.Client
    ids: Sequence[str]
    shift: float
    waiting: list[Json] = field(default_factory=list)
    told: int = 0

    def __post_init__(self) -> None:
        self.before = self.counted()

    def call(self, method: str, path: str, body: Json) -> Json:
        answer = self.client.request(method, path, json=body)
        if answer.is_error:
            raise ReplayError(f"{path} answered {answer.status_code}: {answer.text[:300]}")
        found: Json = answer.json()
        return found

    def put_stories(self, stories: Sequence[Json]) -> None:
        for start in range(0, len(stories), AT_ONCE):
            self.call("PUT", "/stories", {"stories": stories[start : start + AT_ONCE]})

    def note(self, row: LogRow, *, joined: bool = False) -> None:
        """Have an impression and its clicks told before the next ranking. joined: the clicks name
        the impression, and so their places in it."""
        name, at = f"replay {row.key}", row.seconds + self.shift
        shown = [self.ids[index] for index in row.candidates]
        event = {"id": name, "time": at, "reader_id": row.user}
        self.waiting.append({**event, "type": "impression", "stories": shown})
        for story, clicked in zip(shown, row.clicked or (), strict=bool(row.clicked)):
            if clicked:
                click = {"type": "click", "id": f"{name} {story}", "story": story}
                self.waiting.append(
                    {**event, **click, **({"impression_id": name} if joined else {})}
                )

    def note_history(self, row: LogRow, end: float) -> None:
        """Have what a reader had clicked before the log told, up to a moment in Unix seconds."""
        for place, index in enumerate(reversed(row.history), start=1):
            click = {"type": "click", "id": f"before {row.key} {place}", "story": self.ids[index]}
            when = {"time": end - place + self.shift, "reader_id": row.user}
            self.waiting.append({**click, **when})

    def tell(self) -> None:
        """Tell what is waiting, and wait until the live figures know it."""
        for start in range(0, len(self.waiting), AT_ONCE):
            events = self.waiting[start : start + AT_ONCE]
            if self.call("POST", "/events", {"events": events})["duplicates"]:
                raise ReplayError("the store has seen this log before: use a new one")
        self.told += len(self.waiting)
        self.waiting.clear()
        end = time.monotonic() + WAIT_S
        while self.counted() - self.before < self.told:
            if time.monotonic() > end:
                raise ReplayError(f"live figures don't know the events after {WAIT_S:.0f} s")
            time.sleep(0.05)

    def counted(self) -> float:
        """How many events the live figures have counted."""
        text = self.client.get("/metrics").raise_for_status().text
        lines = [line for line in text.splitlines() if line.startswith(COUNTER)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def rank(self, row: LogRow, model: str | None) -> dict[str, list[float]]:
        """The probabilities of each kind, in the order of the candidates."""
        lists = {name: getattr(row, name) for name in ("history", "liked", "disliked")}
        body = {
            **{name: [{"id": self.ids[i]} for i in indices] for name, indices in lists.items()},
            "candidates": [{"id": self.ids[index]} for index in row.candidates],
            "time": row.seconds + self.shift,
            "model": model,
        }
        answer = self.call("POST", "/rank", body)
        if not answer["ranker"]:
            raise ReplayError(f"model {answer['model']} has no ranker")
        found = sorted(answer["results"], key=lambda one: int(one["index"]))
        return {kind: [one[kind] for one in found] for kind in KINDS}


@dataclass(frozen=True)
class Measured:
    """One impression, as it was answered. scores: by kind, [candidates]."""

    key: str
    time: datetime
    clicked: list[bool]
    scores: dict[str, list[float]]


def main() -> int:
    options = parse_options()
    key = os.environ.get("OPENAI_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with httpx.Client(base_url=options.url, headers=headers, timeout=120) as client:
            if options.only_tell:
                return tell_all(client, options)
            measured = list(replay(client, options))
    except (ReplayError, TrainingError, httpx.HTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print_table(measured)
    if options.json:
        options.json.write_text(json.dumps([vars(one) for one in measured], default=str))
    return 0


def begin(client: httpx.Client, options: argparse.Namespace) -> tuple[Site, list[LogRow]]:
    """Send the stories, and read the log."""
    data = PreparedData(options.data)
    rows = read_rows(data)
    if not rows:
        raise ReplayError(f"{options.data} has no impressions")
    shift = math.floor((time.time() - rows[-1].seconds) / DAY_S) * DAY_S
    site = Site(client, data.story_ids, shift)
    print(f"{len(data.stories):,} stories, {len(rows):,} impressions", file=sys.stderr)
    titles = zip(data.story_ids, data.stories, strict=True)
    site.put_stories([{"id": i, "title": s.title, "category": s.category} for i, s in titles])
    return site, rows


def tell_all(client: httpx.Client, options: argparse.Namespace) -> int:
    """Tell the whole log, and what its readers had clicked before."""
    site, rows = begin(client, options)
    for row in {row.user: row for row in reversed(rows)}.values():  # each reader's first
        site.note_history(row, rows[0].seconds - DAY_S)
    for row in rows:
        site.note(row, joined=True)
    site.tell()
    last = datetime.fromtimestamp(rows[-1].seconds + site.shift, UTC)
    print(f"told {site.told:,} events, the last of {last:%Y-%m-%dT%H:%M:%S}", file=sys.stderr)
    return 0


def replay(client: httpx.Client, options: argparse.Namespace) -> Iterator[Measured]:
    site, rows = begin(client, options)
    chosen = choose(rows, options.since, options.impressions)
    done = 0
    for _, group in groupby(rows, key=lambda row: row.time):
        moment = list(group)
        asked = [row for row in moment if id(row) in chosen]
        if asked:
            site.tell()
        for row in asked:
            assert row.clicked is not None
            yield Measured(row.key, row.time, row.clicked, site.rank(row, options.model))
            done += 1
            if done % 50 == 0:
                print(f"{done} of {len(chosen)} ranked, {row.time}", file=sys.stderr, flush=True)
        for row in moment:
            site.note(row)


def read_rows(data: PreparedData) -> list[LogRow]:
    names = list(LogRow.__dataclass_fields__)[1:]
    return [LogRow(*values) for values in data.log().select(KEY, *names).collect().iter_rows()]


def choose(rows: Sequence[LogRow], since: datetime | None, count: int) -> set[int]:
    """Impressions to measure, evenly spread over those since then that have clicks and others."""
    can = [
        row
        for row in rows
        if row.clicked and any(row.clicked) and not all(row.clicked)
        if since is None or row.time >= since
    ]
    number = min(count, len(can))
    return {id(can[place * len(can) // number]) for place in range(number)}


def print_table(measured: Sequence[Measured]) -> None:
    """AUC and nDCG@5 by hour and of all, and by how much the ranker is better."""
    by_hour = defaultdict(list)
    for one in measured:
        by_hour[f"{one.time:%Y-%m-%d %H}:00"].append(one)
    names = [f"{figure}, {kind}" for figure in ("AUC", "nDCG@5") for kind in KINDS.values()]
    print("| hour | impressions | " + " | ".join(names) + " |")
    print("|---" * (2 + len(names)) + "|")
    for hour, some in [*by_hour.items(), ("all", measured)]:
        found = {kind: figures_of(some, kind) for kind in KINDS}
        cells = [
            f"{found[kind][figure].value:.3f}" for figure in ("auc", "ndcg_at_5") for kind in KINDS
        ]
        print(f"| {hour} | {len(some)} | " + " | ".join(cells) + " |")
    text, ranker = (figures_of(measured, kind) for kind in KINDS)
    for name, gain in metrics.differences(ranker, text, ROUNDS, SEED).items():
        interval = f"[{gain.low:+.4f}, {gain.high:+.4f}]"
        print(f"ranker above text alone, {name}: {gain.value:+.4f} {interval}")


def figures_of(measured: Sequence[Measured], kind: str) -> dict[str, metrics.Ratio]:
    clicked = [np.array(one.clicked, np.bool_) for one in measured]
    return metrics.ranking(clicked, [np.array(one.scores[kind]) for one in measured])


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    add("--data", type=Path, required=True, help="folder that `training prepare` wrote")
    add("--since", type=datetime.fromisoformat, help="measure impressions from then on")
    add("--impressions", type=int, default=200, help="how many to measure (default: %(default)s)")
    add("--only-tell", action="store_true", help="rank nothing")
    add("--model", help="model or alias (default: the service's)")
    add("--json", type=Path, help="write every measured impression there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
