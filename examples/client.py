"""A small client: score one story, rank several, and chat through OpenAI's SDK.

  .venv/bin/python examples/client.py --url http://127.0.0.1:8000

If the service requires keys, set OPENAI_API_KEY to one with the scope `predict`.
"""

import argparse
import os
import sys
from typing import Any

import httpx
import openai

# A story is a title, or an object that may add a category and your own ID.
READER = {
    "history": [
        {"title": "Rookie breaks the touchdown record", "category": "sports"},
        {"title": "Quarterback leads late comeback", "category": "sports"},
    ],
    "disliked": ["15 cozy soups to make this fall"],
}
FRONT_PAGE = [
    {"id": "N1", "title": "Stocks fall after the central bank's meeting", "category": "finance"},
    {"id": "N2", "title": "Cup final goes to penalties", "category": "sports"},
    {"id": "N3", "title": "How to cook a juicy turkey", "category": "foodanddrink"},
    {"id": "N4", "title": "Coach fired after losing season", "category": "sports"},
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    url = parser.parse_args().url
    key = os.environ.get("OPENAI_API_KEY", "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
        model = predict(client)
        rank(client)
    chat(openai.OpenAI(base_url=f"{url}/v1", api_key=key or "none"), model)


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Send a request and return the JSON; exit with the service's message if it is an error.

    A real client would try again after a 503 or 429, once the seconds in Retry-After have passed.
    """
    response = client.post(path, json=body)
    answer: dict[str, Any] = response.json()
    if response.is_error:
        sys.exit(f"{path} answered {response.status_code}: {answer['error']['message']}")
    return answer


def predict(client: httpx.Client) -> str:
    """Print the probability that the reader clicks one story; returns the model's name."""
    answer = post(client, "/predict", READER | {"target": FRONT_PAGE[3]})
    print(f"{answer['model']} expects a click with a probability of {answer['probability']:.3f}:")
    print(f"  {FRONT_PAGE[3]['title']}\n")
    return str(answer["model"])


def rank(client: httpx.Client) -> None:
    """Print the three best stories. `index` is a story's place in the request."""
    answer = post(client, "/rank", READER | {"candidates": FRONT_PAGE, "top_k": 3})
    print(f"The best 3 of {len(FRONT_PAGE)} stories:")
    for story in answer["results"]:
        title = FRONT_PAGE[story["index"]]["title"]
        print(f"  {story['rank']}. {story['probability']:.3f}  {story['id']}  {title}")


def chat(client: openai.OpenAI, model: str) -> None:
    """Ask the same model in words, streaming its answer."""
    question = "Clicked: Quarterback leads late comeback\nNext: Coach fired after losing season"
    print("\nThe same model in a chat: ", end="")
    for chunk in client.chat.completions.create(
        model=model,
        messages=[
            {"role": "system", "content": "Will the reader click the next story? Yes. or No."},
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
