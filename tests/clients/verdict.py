"""What the Python clients ask, and the form in which they want a structured answer.

Only short fields: the default model's answers make no sense, and a free text would go on and on.
"""

from typing import Literal

from pydantic import BaseModel

MODEL = "news-smollm2"
QUESTION = "A reader clicked two stories about football. Will they click one about the cup final?"
PROMPT = "The news today:"


class Verdict(BaseModel):
    """Will the story be clicked?"""

    click: bool
    section: Literal["sports", "finance", "weather"]
    stars: Literal[1, 2, 3]
