"""The feedback loop: rank stories, show the best, report what was clicked, read the figures.

  .venv/bin/python examples/feedback_loop.py --url http://127.0.0.1:8000 --visits 50

The readers and stories are those of examples/mind/val. The clicks are simulated from --seed. If the
service requires keys, set OPENAI_API_KEY to one with the scope `admin`, which GET /experiments
needs; the other calls need only `predict`.
"""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import httpx

MIND = Path(__file__).parent / "mind" / "val"
SHOWN = 5
"""Stories on the page. We ask for no more, since every story of an answer counts as shown."""
READ_ON = 0.8
"""Probability that a reader goes on to the next story."""
LIKED, OTHER = 0.5, 0.05
"""Probability of a click on a story that this reader clicked in the data, and on any other."""

Story = dict[str, str]


@dataclass
class Visit:
    """A reader opens the front page. liked: IDs of the candidates clicked in the data."""

    reader: str
    history: list[Story]
    candidates: list[Story]
    liked: set[str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument("--visits", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    options = parser.parse_args()
    key = os.environ.get("OPENAI_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    visits, random, clicks = read_visits(MIND), Random(options.seed), 0
    with httpx.Client(base_url=options.url, headers=headers, timeout=60) as client:
        for number in range(options.visits):
            clicks += serve(client, random.choice(visits), random, shows=number == 0)
        print(f"\n{options.visits} visits, {clicks} clicks. What the service says of its models:")
        for model in client.get("/experiments").raise_for_status().json()["models"]:
            print_figures(model)


def serve(client: httpx.Client, visit: Visit, random: Random, shows: bool) -> bool:
    """Serve one visit and report its outcome; returns whether there was a click."""
    body = {"history": visit.history, "candidates": visit.candidates, "top_k": SHOWN}
    answer = client.post("/rank", json=body).raise_for_status().json()
    results = answer["results"]
    clicked = simulate_click([story["id"] for story in results], visit.liked, random)
    # The stories without feedback count as not clicked. Without a click, one `false` says that the
    # answer was shown; otherwise only answers with clicks would count.
    index = results[clicked or 0]["index"]
    feedback = {"id": answer["id"], "index": index, "clicked": clicked is not None}
    client.post("/feedback", json=feedback).raise_for_status()
    if shows:
        print(f"The first visit is by {visit.reader}:")
        for place, story in enumerate(results):
            title = visit.candidates[story["index"]]["title"]
            mark = "  <- clicked" if place == clicked else ""
            print(f"  {story['rank']}. {story['probability']:.3f}  {title}{mark}")
    return clicked is not None


def simulate_click(shown: list[str], liked: set[str], random: Random) -> int | None:
    """The place of the clicked story. The reader starts at the top and may stop anywhere."""
    for place, story in enumerate(shown):
        if random.random() < (LIKED if story in liked else OTHER):
            return place
        if random.random() > READ_ON:
            return None
    return None


def print_figures(model: dict[str, Any]) -> None:
    """Print one model's figures, each with its 95 % interval."""
    print(f"{model['model']}: {model['impressions']} stories shown, {model['clicks']} clicked")
    for name in ("click_through", "auc", "clicks_per_expected"):
        if figure := model[name]:
            interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
            print(f"  {name:20} {figure['value']:.3f}  ({interval})")


def read_visits(folder: Path) -> list[Visit]:
    """The rows of a MIND folder."""
    rows = [line.split("\t") for line in (folder / "news.tsv").read_text("utf-8").splitlines()]
    news = {row[0]: {"id": row[0], "title": row[3], "category": row[1]} for row in rows}
    visits = []
    for line in (folder / "behaviors.tsv").read_text("utf-8").splitlines():
        _, reader, _, history, shown = line.split("\t")
        labels = dict(entry.split("-") for entry in shown.split())
        liked = {story for story, label in labels.items() if label == "1"}
        candidates = [news[story] for story in labels]
        visits.append(Visit(reader, [news[one] for one in history.split()], candidates, liked))
    return visits


if __name__ == "__main__":
    main()
