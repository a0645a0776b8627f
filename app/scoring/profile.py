"""Profiles, which say how a model is to be prompted and its scores read: its prompt, its labels and
its calibration.

Training writes a profile as `profile.json` beside the weights, and serving reads it. A model
without one gets the original project's prompt and uncalibrated probabilities.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

PROFILE_FILE = "profile.json"
RANKER_FILES = ("ranker.json", "ranker.txt", "first_stage.txt", "tower.npz")
"""What may lie beside a profile and travels with it; see app.ranker and app.likeness.tower."""
NO_THINK = "<think>\n\n</think>\n\n"  # an empty thought, Qwen3's own form of not thinking
MODELS_TURN = "<|im_start|>assistant\n"


class Frozen(BaseModel):
    """An immutable model that rejects unknown fields, and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Section(Frozen):
    """One of the reader's lists in the prompt. `item` may use {title} and {category}; a story
    without a category is written as its title alone."""

    field: Literal["history", "liked", "disliked"]
    before: str = ""
    item: str = "{title}"
    between: str = "\n"
    after: str = "\n"
    keep_empty: bool = Field(False, description="Write before and after for an empty list too.")


class Layout(Frozen):
    """The texts of a prompt in order: head, the reader's sections, the target, tail.

    Everything before the target is shared by all candidates of one reader. These texts may contain
    control tokens; stories are data and can never become one.
    """

    name: str
    head: str
    sections: tuple[Section, ...]
    before_target: str
    target: str = "{title}"
    tail: str

    @model_validator(mode="after")
    def check_items(self) -> Self:
        for item in (self.target, *(section.item for section in self.sections)):
            if "{title}" not in item:
                raise ValueError(f"an item must hold {{title}}: {item!r}")
            if "{category}" in item and not item.startswith(("{category}", "{title}")):
                raise ValueError(f"an item with {{category}} must start with a name: {item!r}")
        return self

    def without_thinking(self) -> Self:
        """With an empty thought where the model's turn begins."""
        before, turn, own = self.before_target.rpartition(MODELS_TURN)
        if turn:
            return self.model_copy(update={"before_target": f"{before}{turn}{NO_THINK}{own}"})
        return self.model_copy(update={"tail": self.tail + NO_THINK})


ORIGINAL = Layout(
    name="original",
    head="<|im_start|>system\nYou are a news recommendation expert. Based on user's click history"
    " and preferences, predict if they will click the target news.<|im_end|>\n<|im_start|>user\n",
    sections=(
        Section(
            field="history",
            before="User click histories: ",
            item='"{title}"',
            between=", ",
            keep_empty=True,
        ),
        Section(
            field="liked",
            before="User's liked news: ",
            item='"{title}"',
            between=", ",
            keep_empty=True,
        ),
        Section(
            field="disliked",
            before="User's disliked news: ",
            item='"{title}"',
            between=", ",
            keep_empty=True,
        ),
    ),
    before_target="Target news: ",
    target='"{title}"',
    tail="\nWill the user click this news? Answer with 'Yes.' or 'No.'<|im_end|>\n"
    "<|im_start|>assistant\n",
)
COMPACT = Layout(
    name="compact",
    head="<|im_start|>system\nWill the reader click the last story? Answer Yes. or No.<|im_end|>\n"
    "<|im_start|>user\n",
    sections=(
        Section(field="liked", before="Liked:\n", after="\n"),
        Section(field="disliked", before="Passed over:\n", after="\n"),
        Section(field="history", before="Clicked:\n", after="\n"),
    ),
    before_target="Next:\n",
    tail="<|im_end|>\n<|im_start|>assistant\n",
)
WITH_CATEGORY = "{category}: {title}"
CATEGORIES = COMPACT.model_copy(
    update={
        "name": "categories",
        "sections": tuple(
            section.model_copy(update={"item": WITH_CATEGORY}) for section in COMPACT.sections
        ),
        "target": WITH_CATEGORY,
    }
)
TIGHT = CATEGORIES.model_copy(
    update={
        "name": "tight",
        "before_target": f"{CATEGORIES.tail}{CATEGORIES.before_target}",
        "tail": "\n",
    }
)
"""The story stands in the model's own turn. What each story of a reader adds is its name and one
token; in a layout whose turn ends after the story, it is five on SmolLM2 and Qwen3."""
LAYOUTS = {layout.name: layout for layout in (ORIGINAL, COMPACT, CATEGORIES, TIGHT)}


def named_layout(value: Any) -> Any:
    """Replace the name of a built-in layout by the layout."""
    if isinstance(value, str):
        if value not in LAYOUTS:
            raise ValueError(
                f"unknown layout {value!r}; the built-in ones are {', '.join(LAYOUTS)}"
            )
        return LAYOUTS[value]
    return value


class Calibration(Frozen):
    """Platt (1999): probability = sigmoid(slope · (logit of yes − logit of no) + intercept)."""

    slope: float = Field(1.0, gt=0)
    intercept: float = 0.0


class Labels(Frozen):
    """The two possible answers. A score compares the first token of each."""

    yes: str = "Yes."
    no: str = "No."


class Profile(Frozen):
    """The content of profile.json, which lies beside an adapter's or a model's weights."""

    layout: Annotated[Layout, BeforeValidator(named_layout)] = ORIGINAL
    chat_layout: Annotated[Layout | None, BeforeValidator(named_layout)] = Field(
        None,
        description="How a chat is worded that the model answers too. Default: as `layout`.",
        exclude_if=lambda layout: layout is None,
    )
    no_think: bool = Field(False, description="Begin the model's turn with Qwen3's empty thought.")
    history: int = Field(3, ge=0, description="How many of the last clicked stories are used.")
    liked: int = Field(3, ge=0)
    disliked: int = Field(3, ge=0)
    prefix_multiple: int = Field(
        1,
        ge=1,
        description="Line breaks after the layout's head pad the candidates' shared prefix to a"
        " multiple of so many tokens. With the prefix cache's block size, the prefix fills whole"
        " blocks, so none of it is computed again.",
    )
    labels: Labels = Labels()
    calibration: Calibration = Calibration()
    threshold: float = Field(
        0.5, ge=0, le=1, description="From this probability on, the label is Yes."
    )
    min_label_mass: float = Field(
        0.1,
        ge=0,
        le=1,
        description="The label is Unknown if the labels' total probability is below this.",
    )
    shortlist: int | None = Field(
        None, gt=0, description="How many candidates of a /rank the language model judges at most."
    )
    base_model: str | None = None
    data_hash: str | None = None


class ProfileError(ValueError):
    """A profile.json that can't be used; the message names the file and the field."""


def load_profile(folder: Path) -> Profile:
    """Read the profile in a model's or adapter's folder; without a file, the default profile.

    Raises ProfileError for an invalid file.
    """
    file = folder / PROFILE_FILE
    if not file.exists():
        return Profile()
    try:
        return Profile.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise ProfileError(f"{file}: {where}: {first['msg']}") from None
