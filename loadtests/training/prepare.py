"""Measure the time and memory that `training prepare` needs for an input of MIND-large's size.

  python -m loadtests.training.prepare --mind MIND/train

The input is made by repeating the given MIND folder with new IDs: each story twice or more, three
impressions per reader as in MIND-large, and times shifted within their day. Each recipe runs in its
own process. For comparison, the original project's method, which handles one row at a time, runs on
a share of the rows and its time is scaled up. It uses pandas' iterrows if --baseline-python has
pandas and the csv module otherwise. Prints a table and one line of JSON.
"""

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loadtests.services import ROOT

TIME_FORMAT = "%m/%d/%Y %I:%M:%S %p"
IMPRESSIONS_PER_READER = 3
Sample = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.training.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mind", type=Path, required=True, help="MIND folder to repeat")
    parser.add_argument("--impressions", type=int, default=2_200_000, help="how many to write")
    parser.add_argument("--stories", type=int, default=101_000, help="least number of stories")
    parser.add_argument(
        "--baseline-share", type=float, default=0.05, help="share of the rows for the baseline"
    )
    parser.add_argument(
        "--baseline-python", default=sys.executable, help="interpreter for the baseline"
    )
    parser.add_argument("--work", type=Path, help="folder for 3 GB (default: a temporary one)")
    parser.add_argument("--baseline", type=int, metavar="ROWS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.baseline:
        print(prepare_by_row(options.mind, options.work, options.baseline))
        return
    with tempfile.TemporaryDirectory(dir=options.work) as work:
        measure(options, Path(work))


def measure(options: argparse.Namespace, work: Path) -> None:
    large = work / "large"
    impressions, stories = repeat(options.mind, large, options.impressions, options.stories)
    size = (large / "behaviors.tsv").stat().st_size / 1e9
    print(f"input: {impressions:,} impressions, {stories:,} stories, {size:.2f} GB", flush=True)
    results = {}
    for recipe in ("original", "temporal"):
        command = [sys.executable, "-m", "training", "prepare", "--train", str(large)]
        command += ["--out", str(work / recipe), "--recipe", recipe]
        results[recipe] = run_measured(command)
    rows = round(impressions * options.baseline_share)
    command = [options.baseline_python, "-m", "loadtests.training.prepare", "--mind", str(large)]
    baseline = run_measured([*command, "--work", str(work), "--baseline", str(rows)])
    baseline["seconds_scaled"] = baseline["seconds"] / options.baseline_share
    results["original, row by row"] = {**baseline, "rows": rows}
    for name, result in results.items():
        whole = result.get("seconds_scaled", result["seconds"])
        note = f" ({result['seconds']:.1f} s for {rows:,} rows)" if "rows" in result else ""
        print(f"{name:22} {whole:7.1f} s  peak {result['peak_gib']:5.2f} GiB{note}")
    print(json.dumps({"impressions": impressions, "stories": stories, **results}))


def run_measured(command: list[str]) -> dict[str, Any]:
    """Run a process and return its wall and CPU seconds and its peak resident memory."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_gib": round(usage.ru_maxrss / 2**20, 3),
    }


def repeat(source: Path, target: Path, impressions: int, stories: int) -> tuple[int, int]:
    """Write the folder `target` in MIND's layout and return its (impressions, stories)."""
    target.mkdir()
    news = (source / "news.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    copies = -(-stories // len(news))
    with (target / "news.tsv").open("w", encoding="utf-8") as file:
        for copy in range(copies):
            file.writelines(rename_story(line, copy) for line in news)
    text = (source / "behaviors.tsv").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    variants = [
        [(turn(row[2], visit), *rename_stories(row, copy)) for row in rows]
        for copy in range(copies)
        for visit in range(IMPRESSIONS_PER_READER)
    ]
    number = 0
    with (target / "behaviors.tsv").open("w", encoding="utf-8") as file:
        for block in range(-(-impressions // len(rows))):
            chosen = variants[block % len(variants)]
            reader = block // IMPRESSIONS_PER_READER
            for (_, user, *_), (when, history, shown) in zip(rows, chosen, strict=True):
                number += 1
                file.write(f"{number}\t{user}R{reader}\t{when}\t{history}\t{shown}\n")
                if number == impressions:
                    break
    return number, copies * len(news)


def rename_story(line: str, copy: int) -> str:
    story, rest = line.split("\t", 1)
    return f"{story}{suffix(copy)}\t{rest}"


def rename_stories(row: list[str], copy: int) -> tuple[str, str]:
    history = " ".join(story + suffix(copy) for story in row[3].split())
    shown = (entry.rsplit("-", 1) for entry in row[4].split())
    return history, " ".join(f"{story}{suffix(copy)}-{label}" for story, label in shown)


def suffix(copy: int) -> str:
    return f"x{copy}" if copy else ""


def turn(when: str, visit: int) -> str:
    """The time `visit` times five hours later; past midnight it wraps around to the same day."""
    moment = datetime.strptime(when, TIME_FORMAT)
    return (
        (moment + timedelta(hours=5 * visit))
        .replace(year=moment.year, month=moment.month, day=moment.day)
        .strftime(TIME_FORMAT)
    )


def prepare_by_row(mind: Path, work: Path, count: int) -> str:
    """Prepare the first `count` rows as the original project does; returns a line for the log."""
    has_pandas = find_spec("pandas") is not None
    titles = {row[0]: row[3] for row in read_rows(mind / "news.tsv", 8, None, has_pandas)}
    rows = read_rows(mind / "behaviors.tsv", 5, count, has_pandas)
    samples = [build_sample(row[3], row[4], titles) for row in rows]
    yes = [sample for sample in samples if sample["output"] == "Yes."]
    no = [sample for sample in samples if sample["output"] == "No."]
    random.seed(0)
    balanced = yes + random.sample(no, min(len(yes), len(no)))
    with (work / "by_row.json").open("w", encoding="utf-8") as file:
        json.dump(balanced, file, indent=4, ensure_ascii=False)
    return f"row by row with {'pandas' if has_pandas else 'the csv module'}: {len(balanced):,}"


def read_rows(file: Path, width: int, count: int | None, has_pandas: bool) -> Iterator[Any]:
    if has_pandas:
        pandas = import_module("pandas")  # not a dependency of the project
        frame = pandas.read_csv(
            file, sep="\t", header=None, names=range(width), nrows=count, quoting=csv.QUOTE_NONE
        )
        for _, row in frame.fillna("").iterrows():
            yield row
        return
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        for number, row in enumerate(reader):
            if number == count:
                return
            yield row


def build_sample(history: str, shown: str, titles: dict[str, str]) -> Sample:
    """One sample as in the original project's README."""
    clicked = [titles.get(story, "") for story in history.split()[-3:]]
    liked: list[str] = []
    disliked: list[str] = []
    *entries, last = shown.split()
    for entry in entries:
        story, label = entry.split("-")
        (liked if label == "1" else disliked).append(titles.get(story, ""))
    target, label = last.split("-")
    lists = (clicked, liked[:3], disliked[:3])
    texts = [", ".join(f'"{title}"' for title in titles) for titles in lists]
    return {
        "instruction": "You are a news recommendation expert. Based on user's click history and "
        "preferences, predict if they will click the target news.",
        "input": f"User click histories: {texts[0]}\nUser's liked news: {texts[1]}\n"
        f'User\'s disliked news: {texts[2]}\nTarget news: "{titles.get(target, "")}"\n'
        "Will the user click this news? Answer with 'Yes.' or 'No.'",
        "output": "Yes." if label == "1" else "No.",
    }


if __name__ == "__main__":
    main()
