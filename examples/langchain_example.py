"""LangChain: ask the served model in words, in a chain with a prompt and a parser.

  pip install langchain-openai
  python -m examples.langchain_example --url http://127.0.0.1:8000

If the service requires keys, set OPENAI_API_KEY to one with the scope `predict`. The answer is the
model's own text; a calibrated probability comes from /predict (examples/client.py).
"""

import argparse
import os
from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

READ = ("Rookie breaks the touchdown record", "Quarterback leads late comeback")
NEXT = ("Coach fired after losing season", "How to cook a juicy turkey")
PROMPT = ChatPromptTemplate(
    [
        (
            "system",
            "You are a news recommendation expert. Based on user's click history and preferences,"
            " predict if they will click the target news.",
        ),
        (
            "human",
            "User click histories: {clicked}\nUser's liked news: \nUser's disliked news: \n"
            'Target news: "{story}"\n'
            "Will the user click this news? Answer with 'Yes.' or 'No.'",
        ),
    ]
)
"""As the default model has learned it (docs/from-the-original-project.md)."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default: %(default)s")
    parser.add_argument("--model", default="news-smollm2", help="default: %(default)s")
    options = parser.parse_args()
    clicked = ", ".join(f'"{title}"' for title in READ)
    asked = [{"clicked": clicked, "story": story} for story in NEXT]
    for story, answer in zip(NEXT, chain(options.url, options.model).batch(asked), strict=True):
        print(f"{story}: {answer}")


def chain(url: str, model: str) -> Any:
    """Takes the stories clicked and the next one, and gives the model's words."""
    key: Any = os.environ.get("OPENAI_API_KEY") or "none"
    chat = ChatOpenAI(
        base_url=f"{url}/v1", api_key=key, model=model, temperature=0, max_completion_tokens=10
    )
    return PROMPT | chat | StrOutputParser()


if __name__ == "__main__":
    main()
