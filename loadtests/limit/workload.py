"""The questions that `loadtests.limit` asks, and the tokens that they need at least.

A question is a reader, who never returns, and the stories to score for that reader. The name of a
series determines its questions, so engines in different processes get identical ones, and a prefix
cache knows nothing of a series until its process has been asked.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from random import Random

from app.likeness.tower import TOWER_FILE
from app.ranker.ranker import DESCRIPTION_FILE, FIRST_STAGE_FILE, RANKER_FILE
from app.scoring.encoder import Encoder
from app.scoring.profile import LAYOUTS, PROFILE_FILE, load_profile
from app.scoring.prompt import Prompt, PromptBuilder
from app.scoring.wording import Reader, Story, chat_messages
from loadtests.services import LoadTestError
from loadtests.traffic import long_tailed, read_stories

NO_TOKEN_LIMIT = 1 << 30
IMPRESSION_LENGTHS = (23, 1.0, (2, 300))
"""Candidates of an impression like MIND's: log-normal with this median and spread, clipped. Their
mean is 37, and a tenth have over 83. Of 5,000 impressions of MIND's training data the mean is 38,
the median 24, and a tenth have over 93."""
READERS_AT_ONCE = 64
SAMPLED_READERS = 32
"""How many readers the mean of the needed tokens is taken over."""
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Question:
    """A reader, and the stories to score for that reader."""

    reader: Reader
    targets: list[Story]


class Workload:
    """Questions, and the prompts that they become in each layout."""

    def __init__(
        self, model: Path, mind: Path, history: int, most_stories: int | None = None
    ) -> None:
        """Prepare the stories and the prompts.

        model: a folder with tokenizer.json. mind: a folder with news.tsv. history: titles per
        reader. most_stories: how many of the stories take part; None means all. Raises ValueError
        if the stories cannot be read or are too few.
        """
        self.stories = read_stories(mind, Random("limit"))[:most_stories]
        self.history = history
        if len(self.stories) < history:
            raise ValueError(f"{mind} gives {len(self.stories)} titles, too few for a history")
        encoder = Encoder(model / "tokenizer.json")
        profile = load_profile(model)
        change = {"history": history, "liked": 3, "disliked": 3}
        own = dict.fromkeys(LAYOUTS, profile.prefix_multiple) | {"original": 1}

        def builders(multiples: dict[str, int]) -> dict[str, PromptBuilder]:
            return {
                name: PromptBuilder(
                    encoder,
                    profile.model_copy(
                        update={"layout": layout, "prefix_multiple": multiples[name], **change}
                    ),
                )
                for name, layout in LAYOUTS.items()
            }

        self.builders = builders(own)
        self.unfilled = builders(dict.fromkeys(LAYOUTS, 1))

    def questions(self, series: str, targets: int) -> Iterator[Question]:
        """Endless questions of `targets` stories. Readers have only a history, as in MIND."""
        random = Random(f"limit {series}")
        while True:
            reader = Reader(random.sample(self.stories, self.history))
            yield Question(reader, random.sample(self.stories, targets))

    def impressions(self, series: str, visits: int = 1) -> Iterator[Question]:
        """As `questions`, with as many stories as an impression of MIND has, see
        IMPRESSION_LENGTHS. visits: how often each reader comes, among READERS_AT_ONCE others."""
        random = Random(f"limit impressions {series}")
        while True:
            readers = [
                Reader(random.sample(self.stories, self.history)) for _ in range(READERS_AT_ONCE)
            ]
            for reader in random.sample(readers * visits, READERS_AT_ONCE * visits):
                count = long_tailed(random, *IMPRESSION_LENGTHS)
                yield Question(reader, random.sample(self.stories, count))

    def prompts(self, question: Question, layout: str) -> list[Prompt]:
        return self.builders[layout].build(question.reader, question.targets, NO_TOKEN_LIMIT)

    def labels(self, layout: str) -> tuple[int, int]:
        """Token IDs of (yes, no)."""
        return self.builders[layout].yes, self.builders[layout].no

    def messages(self, reader: Reader, target: Story, layout: str) -> list[dict[str, str]]:
        return chat_messages(self.builders[layout].profile, reader, target)

    def needed_tokens(self, targets: int, layout: str) -> float:
        """The tokens that must be computed per story if readers come with `targets` stories each.

        These are the story's own tokens and its share of its reader's prefix. What all readers
        have in common does not count, since it is computed only once.
        """
        asked = islice(self.questions("needed", targets), SAMPLED_READERS)
        plain = self.unfilled[layout]
        built = [plain.build(one.reader, one.targets, NO_TOKEN_LIMIT) for one in asked]
        columns = zip(*(prompts[0].prefix for prompts in built), strict=False)
        shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
        own = sum(len(prompt.tail) for prompts in built for prompt in prompts)
        return (
            (own + sum(len(prompts[0].prefix) - shared for prompts in built)) / len(built) / targets
        )


def prepare_model(
    model: Path,
    layout: str,
    history: int,
    folder: Path,
    prefix_multiple: int | None = None,
    ranker: Path | None = None,
) -> Path:
    """Create a folder of links to the model's files, with the profile of this run; return its path.

    If the model has no chat template, one is added, since vLLM's chat needs it. prefix_multiple:
    None keeps the model's own. ranker: a folder whose ranker is used instead of the model's. Raises
    LoadTestError if a file is missing.
    """
    for name in ("config.json", "tokenizer.json"):
        if not (model / name).is_file():
            raise LoadTestError(f"--model: no {name} in {model}")
    profile = load_profile(model)
    change = {"layout": LAYOUTS[layout], "history": history}
    change["prefix_multiple"] = prefix_multiple or profile.prefix_multiple
    profile = profile.model_copy(update=change)
    place = folder / model.resolve().name
    place.mkdir(parents=True, exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    for file in model.iterdir():
        if file.is_file() and file.name != PROFILE_FILE:
            (place / file.name).symlink_to(file.resolve())
    if ranker is not None:
        link_ranker(ranker, place)
    (place / PROFILE_FILE).write_text(profile.model_dump_json(indent=1), encoding="utf-8")
    tokenizer = model / "tokenizer_config.json"
    if not any(model.glob("chat_template.*")) and not (
        tokenizer.is_file() and "chat_template" in json.loads(tokenizer.read_bytes())
    ):
        (place / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    return place


def link_ranker(ranker: Path, place: Path) -> None:
    """Raises LoadTestError if the folder has no ranker."""
    if not (ranker / DESCRIPTION_FILE).is_file():
        raise LoadTestError(f"--ranker: no {DESCRIPTION_FILE} in {ranker}")
    for name in (DESCRIPTION_FILE, RANKER_FILE, FIRST_STAGE_FILE, TOWER_FILE):
        (place / name).unlink(missing_ok=True)
        if (ranker / name).is_file():
            (place / name).symlink_to((ranker / name).resolve())


def layer_weights(model: Path) -> int:
    """Count the weights in the matrices of the layers, from config.json alone.

    Every token is multiplied by these. The head does not count: it is applied only to the last
    token of a prompt.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    return count_weights((name, one.shape) for name, one in built.named_parameters())


def count_weights(shapes: Iterable[tuple[str, Iterable[int]]]) -> int:
    """Count the weights in the matrices of the layers. shapes: (name, shape) of each parameter."""
    total = 0
    for name, shape in shapes:
        sizes = tuple(shape)
        if ".layers." in name and len(sizes) == 2:
            total += sizes[0] * sizes[1]
    return total
