"""What is trained on: the training split in tokens, packed into rows."""

import random
from collections.abc import Sequence
from pathlib import Path

from app.scoring.prompt import PromptBuilder
from training.data.prepared import PreparedData, without_categories
from training.errors import TrainingError
from training.folders import read_json
from training.packed.prompts import build_prompts
from training.packed.rows import AnswerTokens, Group, group_prompts, pack, separate
from training.progress import is_first_process, say
from training.tuning.config import FinetuneConfig


def read_answers(builder: PromptBuilder, base: Path) -> AnswerTokens:
    """The two labels in tokens, each with the end of a turn that the tokenizer names."""
    file = base / "tokenizer_config.json"
    config = read_json(file) if file.is_file() else {}
    end = config.get("eos_token") or ""
    end = end["content"] if isinstance(end, dict) else end
    labels = builder.profile.labels
    yes, no = (builder.encoder.template(label + end) for label in (labels.yes, labels.no))
    return AnswerTokens(yes, no)


def read_groups(
    config: FinetuneConfig, data: PreparedData, builder: PromptBuilder, answers: AnswerTokens
) -> list[Group]:
    """The training split in tokens, whole impressions until max_samples candidates are reached.

    Says how many titles are too long for cutoff_len. Raises TrainingError for a split without
    candidates.
    """
    groups: list[Group] = []
    samples = too_long = 0
    limit = config.cutoff_len - answers.longest + 1
    chance, chat = random.Random(config.seed), chat_builder(builder)
    for impression in data.impressions("train"):
        if config.max_samples is not None and samples >= config.max_samples:
            break
        if chance.random() < config.category_dropout:
            impression = without_categories(impression)
        reader, candidates = impression.reader, impression.candidates
        asked = chat if chat and chance.random() < config.chat_share else builder
        prompts, cut = build_prompts(asked, reader, candidates, limit, impression.id)
        too_long += len(cut)
        left_out = cut if config.long_titles == "skip" else []
        kept = [place for place in range(len(prompts)) if place not in left_out]
        clicked = [impression.clicked[place] for place in kept] if impression.clicked else None
        prompts = [prompts[place] for place in kept]
        groups += group_prompts(prompts, clicked, answers, config.row_tokens)
        samples += len(kept)
    if too_long and is_first_process():
        say(f"{too_long:,} candidates with titles too long for cutoff_len: {config.long_titles}")
    if not groups:
        raise TrainingError(f"{data.folder}: the training split has no candidates")
    return groups


def chat_builder(builder: PromptBuilder) -> PromptBuilder | None:
    """Builds the prompts of a chat that is worded otherwise, as a client would send it."""
    profile = builder.profile
    if profile.chat_layout is None:
        return None
    changed = {"layout": profile.chat_layout, "prefix_multiple": 1}
    return PromptBuilder(builder.encoder, profile.model_copy(update=changed))


def make_rows(config: FinetuneConfig, groups: Sequence[Group]) -> list[list[Group]]:
    """The rows that are trained on, as the option `packing` asks."""
    if config.packing == "none":
        return [[group] for group in separate(groups)]
    groups = separate(groups) if config.packing == "samples" else groups
    return pack(groups, config.row_tokens, config.seed)
