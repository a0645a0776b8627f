"""The feedback loop: rank stories, show the best, report what was clicked, read the figures.

  .venv/bin/python -m examples.feedback_loop --url http://127.0.0.1:8000 --visits 50

The readers and stories are those of examples/mind/val. The clicks are simulated from --seed. If the
service requires keys, set OPENAI_API_KEY to one with the scope `admin`, which GET /experiments
needs; the other calls need only `predict`.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from random import Random

from app.feedback.figures import ModelFigures
from frontpage.client import Client

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
    visits, random, clicks = read_visits(MIND), Random(options.seed), 0
    with Client(options.url, timeout_s=60) as client:
        for number in range(options.visits):
            clicks += serve(client, random.choice(visits), random, shows=number == 0)
        print(f"\n{options.visits} visits, {clicks} clicks. What the service says of its models:")
        for model in client.experiments().models:
            print_figures(model)


def serve(client: Client, visit: Visit, random: Random, shows: bool) -> bool:
    """Serve one visit and report its outcome; returns whether there was a click."""
    answer = client.rank(visit.candidates, history=visit.history, top_k=SHOWN)
    clicked = simulate_click([story.id for story in answer.results], visit.liked, random)
    # The stories without feedback count as not clicked. Without a click, one `false` says that the
    # answer was shown; otherwise only answers with clicks would count.
    index = answer.results[clicked or 0].index
    client.give_feedback(answer.id, index=index, clicked=clicked is not None)
    if shows:
        print(f"The first visit is by {visit.reader}:")
        for place, story in enumerate(answer.results):
            title = visit.candidates[story.index]["title"]
            mark = "  <- clicked" if place == clicked else ""
            print(f"  {story.rank}. {story.probability:.3f}  {title}{mark}")
    return clicked is not None


def simulate_click(shown: list[str], liked: set[str], random: Random) -> int | None:
    """The place of the clicked story. The reader starts at the top and may stop anywhere."""
    for place, story in enumerate(shown):
        if random.random() < (LIKED if story in liked else OTHER):
            return place
        if random.random() > READ_ON:
            return None
    return None


def print_figures(model: ModelFigures) -> None:
    """Print one model's figures, each with its 95 % interval."""
    asked = f"for {model.alias}" if model.alias else "for its own name"
    print(f"{model.model}, {asked}: {model.impressions} stories shown, {model.clicks} clicked")
    for name in ("click_through", "auc", "clicks_per_expected"):
        if figure := getattr(model, name):
            print(f"  {name:20} {figure.value:.3f}  ({figure.low:.3f} to {figure.high:.3f})")


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
