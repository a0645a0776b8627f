"""A small client: score one story, rank several, and chat through OpenAI's SDK.

  .venv/bin/python -m examples.client --url http://127.0.0.1:8000

If the service requires keys, set OPENAI_API_KEY to one with the scope `predict`.
"""

import argparse
import os
import sys
from typing import Any

import openai

from frontpage.calls import PredictOptions
from frontpage.client import Client, FrontpageError

# A story is a title, or an object that may add a category and your own ID.
READER: PredictOptions = {
    "history": [
        {"title": "Rookie breaks the touchdown record", "category": "sports"},
        {"title": "Quarterback leads late comeback", "category": "sports"},
    ],
    "disliked": ["15 cozy soups to make this fall"],
}
FRONT_PAGE: list[dict[str, Any]] = [
    {"id": "N1", "title": "Stocks fall after the central bank's meeting", "category": "finance"},
    {"id": "N2", "title": "Cup final goes to penalties", "category": "sports"},
    {"id": "N3", "title": "How to cook a juicy turkey", "category": "foodanddrink"},
    {"id": "N4", "title": "Coach fired after losing season", "category": "sports"},
]
SYSTEM = (
    "You are a news recommendation expert. Based on user's click history and preferences, predict"
    " if they will click the target news."
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    url = parser.parse_args().url
    try:
        with Client(url) as client:
            model = predict(client)
            rank(client)
    except FrontpageError as error:
        sys.exit(f"the service answered {error.status}: {error}")
    key = os.environ.get("OPENAI_API_KEY") or "none"
    chat(openai.OpenAI(base_url=f"{url}/v1", api_key=key), model)


def predict(client: Client) -> str:
    """Print the probability that the reader clicks one story; returns the model's name."""
    answer = client.predict(FRONT_PAGE[3], **READER)
    print(f"{answer.model} expects a click with a probability of {answer.probability:.3f}:")
    print(f"  {FRONT_PAGE[3]['title']}\n")
    return answer.model


def rank(client: Client) -> None:
    """Print the three best stories. `index` is a story's place in the request."""
    answer = client.rank(FRONT_PAGE, top_k=3, **READER)
    print(f"The best 3 of {len(FRONT_PAGE)} stories:")
    for story in answer.results:
        title = FRONT_PAGE[story.index]["title"]
        print(f"  {story.rank}. {story.probability:.3f}  {story.id}  {title}")


def chat(client: openai.OpenAI, model: str) -> None:
    """Ask the same model in the words that it has learned, streaming its answer."""
    question = (
        'User click histories: "Quarterback leads late comeback"\n'
        "User's liked news: \nUser's disliked news: \n"
        'Target news: "Coach fired after losing season"\n'
        "Will the user click this news? Answer with 'Yes.' or 'No.'"
    )
    print("\nThe same model in a chat: ", end="")
    for chunk in client.chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": question},
        ],
        temperature=0,
        max_tokens=10,
        stream=True,
    ):
        if chunk.choices:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
    print()


if __name__ == "__main__":
    main()
