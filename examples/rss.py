"""An RSS feed: read its stories and rank them for a reader.

  .venv/bin/python -m examples.rss examples/feed.xml --read "Quarterback leads late comeback"
  curl -s https://news.example/rss | .venv/bin/python -m examples.rss - --read "…" --read "…"

If the service requires keys, set OPENAI_API_KEY to one with the scope `predict`.
"""

import argparse
import sys
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from frontpage.client import Client

Story = dict[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("feed", help="a file with RSS 2.0, or - for standard input")
    parser.add_argument("--read", action="append", default=[], help="a title that the reader read")
    parser.add_argument("--top", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    options = parser.parse_args()
    feed = sys.stdin.buffer.read() if options.feed == "-" else Path(options.feed).read_bytes()
    try:
        stories = read_stories(feed)
    except (ParseError, DefusedXmlException, ValueError) as error:
        sys.exit(f"{options.feed}: {error}")
    with Client(options.url) as client:
        answer = client.rank(stories, history=options.read, top_k=options.top)
    for story in answer.results:
        print(f"{story.rank:2}. {story.probability:.3f}  {stories[story.index]['title']}")
        print(f"           {story.id}")


def read_stories(feed: bytes) -> list[Story]:
    """The items of an RSS 2.0 feed; an item without a title is left out. Its id is its `guid`, or
    its link. Raises ValueError if there is none, ParseError, and DefusedXmlException for a feed
    with entities, with which a few bytes can fill the memory."""
    stories = [story for item in fromstring(feed).iter("item") if "title" in (story := of(item))]
    if not stories:
        raise ValueError("there is no <item> with a <title>, as RSS 2.0 has them")
    return stories


def of(item: Element) -> Story:
    """The item's fields that have a text."""
    fields = {
        "id": item.findtext("guid") or item.findtext("link"),
        "title": item.findtext("title"),
        "category": item.findtext("category"),
    }
    return {name: text.strip() for name, text in fields.items() if text and text.strip()}


if __name__ == "__main__":
    main()
