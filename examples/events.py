"""Events: send stories, report what readers were shown and clicked, and see the order change.

  .venv/bin/python -m examples.events --url http://127.0.0.1:8000

If the service requires keys, set OPENAI_API_KEY to one with the scope `admin`, or with both
`events` and `predict`. Each run sends new clicks, which the service keeps.
"""

import argparse
import time
from typing import Any

from frontpage.client import Client

STORIES: list[dict[str, Any]] = [
    {"id": "events-1", "title": "Stocks fall", "category": "finance"},
    {"id": "events-2", "title": "Cup final goes to penalties", "category": "sports"},
    {"id": "events-3", "title": "How to cook a juicy turkey", "category": "foodanddrink"},
]
CLICKED = "events-1"
READERS = ("ann", "bob", "eve")
HISTORY = ["Rookie breaks the touchdown record", "Quarterback leads late comeback"]
SOON_S = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    with Client(parser.parse_args().url) as client:
        client.put_stories(STORIES)
        shown = impressions_of(client)
        print("Before:")
        print_order(client)
        events = [event for reader in READERS for event in visit(reader)]
        taken = client.post_events(events)
        print(f"\n{taken.accepted} events: {len(READERS)} readers clicked {CLICKED}. After:")
        wait_for(client, shown + len(READERS))
        print_order(client)


def visit(reader: str) -> list[dict[str, Any]]:
    """A reader is shown all stories and clicks one. The click names the impression; the client
    gives ids to events that have none."""
    impression_id = f"{reader}-{time.time_ns()}"
    shown = [story["id"] for story in STORIES]
    return [
        {"type": "impression", "id": impression_id, "reader_id": reader, "stories": shown},
        {"type": "click", "reader_id": reader, "story": CLICKED, "impression_id": impression_id},
    ]


def impressions_of(client: Client) -> int:
    """How often readers were shown the story, as far as the service has counted."""
    live = client.get_story(CLICKED).live
    return live.impressions if live else 0


def wait_for(client: Client, impressions: int) -> None:
    """Wait until the events count, which takes about a second."""
    due = time.monotonic() + SOON_S
    while impressions_of(client) < impressions:
        if time.monotonic() > due:
            raise SystemExit("the service does not count the events")
        time.sleep(0.2)


def print_order(client: Client) -> None:
    """The service knows the stories, so that their ids are enough."""
    answer = client.rank([{"id": story["id"]} for story in STORIES], history=HISTORY, explain=True)
    for story in answer.results:
        live = story.live
        clicks = f"{live.clicks:.0f} of {live.impressions} clicked" if live else "never shown"
        title = STORIES[story.index]["title"]
        print(f"  {story.rank}. {story.probability:.3f}  {story.id}  {title} ({clicks})")


if __name__ == "__main__":
    main()
