"""Training the tower on clicks: one clicked story against other stories of its impression."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer

from app.likeness.encoder import MAX_TOKENS
from training.progress import say
from training.ranking.tower_model import Tower, load_encoder

Ints = NDArray[np.int64]
NOBODY = -1
"""Pads histories."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerOptions:
    """others: stories that were passed over, for each click. rank: of the encoder's additions.
    encoder_rate, rate: the highest learning rates, of these and of the rest. batch: clicks a
    step."""

    others: int = 4
    rank: int = 16
    encoder_rate: float = 5e-4
    rate: float = 1e-3
    batch: int = 128
    epochs: float = 1.0
    warmup: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Clicks:
    """What the tower learns from; stories are indices into the list of titles.

    history: [impressions, HISTORY], the oldest first, padded with NOBODY in front. shown: the
    candidates of each impression, and clicked: which of them were clicked.
    """

    history: Ints
    shown: Sequence[Ints]
    clicked: Sequence[NDArray[np.bool_]]


def train_tower(
    titles: Sequence[str], clicks: Clicks, folder: Path, options: TowerOptions
) -> Tower:
    """Train a tower on the sentence encoder in `folder`, on a GPU if there is one."""
    torch.manual_seed(options.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tower = Tower(load_encoder(folder), options.rank).to(device)
    tokens = Tokens(titles, folder, device)
    samples = draw_samples(clicks, options)
    steps = max(1, math.ceil(len(samples) * options.epochs / options.batch))
    optimizer, schedule = make_optimizer(tower, options, steps)
    tower.train()
    total = torch.zeros((), device=device)
    for step, (rows, stories) in enumerate(batches(samples, options, steps), start=1):
        history = torch.from_numpy(clicks.history[rows]).to(device)
        loss = step_loss(tower, tokens, history, torch.from_numpy(stories).to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tower.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        total += loss.detach()
        if step % 50 == 0 or step == steps:
            say(f"tower: step {step:,} of {steps:,}, mean loss {float(total) / step:.4f}")
    return tower.eval()


def step_loss(tower: Tower, tokens: "Tokens", history: Tensor, stories: Tensor) -> Tensor:
    """The mean of -ln(probability of the click among its stories). history: [clicks, titles];
    stories: [clicks, 1 + others], the clicked one first, NOBODY where there are fewer."""
    known, given = history != NOBODY, stories != NOBODY
    used, place = torch.cat([history.clamp(min=0), stories.clamp(min=0)], 1).unique(
        return_inverse=True
    )
    with torch.autocast(history.device.type, torch.bfloat16, enabled=history.is_cuda):
        vectors = tower.stories(*tokens.of(used))
        placed = vectors[place]
        readers = tower.readers(placed[:, : history.shape[1]], known)
        scores = tower(readers, placed[:, history.shape[1] :])
    scores = scores.float().masked_fill(~given, -torch.inf)
    first = torch.zeros(len(scores), dtype=torch.long, device=scores.device)
    return functional.cross_entropy(scores, first)


class Tokens:
    """All titles' tokens, where the model is."""

    def __init__(self, titles: Sequence[str], folder: Path, device: torch.device) -> None:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        found = tokenizer(
            list(titles), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        self.ids = found["input_ids"].to(device)
        self.mask = found["attention_mask"].to(device)
        self.lengths = self.mask.sum(1)

    def of(self, stories: Tensor) -> tuple[Tensor, Tensor]:
        """(tokens, mask) of some stories, both [stories, the longest one's length]."""
        longest = int(self.lengths[stories].max())
        return self.ids[stories, :longest], self.mask[stories, :longest]


def draw_samples(clicks: Clicks, options: TowerOptions) -> list[tuple[int, Ints]]:
    """(impression, [the clicked story, others that were passed over]) for each click. Impressions
    with clicks alone teach nothing."""
    random = np.random.default_rng(options.seed)
    samples = []
    for row, (shown, clicked) in enumerate(zip(clicks.shown, clicks.clicked, strict=True)):
        passed = shown[~clicked]
        if not len(passed):
            continue
        for story in shown[clicked]:
            others = random.permutation(passed)[: options.others]
            padded = np.full(1 + options.others, NOBODY, np.int64)
            padded[: 1 + len(others)] = [story, *others]
            samples.append((row, padded))
    return samples


def batches(
    samples: Sequence[tuple[int, Ints]], options: TowerOptions, steps: int
) -> Iterator[tuple[Ints, Ints]]:
    """`steps` batches of (impressions [batch], stories [batch, 1 + others]), in random order."""
    random = np.random.default_rng(options.seed + 1)
    order = np.zeros(0, np.int64)
    for _ in range(steps):
        if len(order) < min(options.batch, len(samples)):
            order = np.concatenate([order, random.permutation(len(samples))])
        taken, order = order[: options.batch], order[options.batch :]
        rows = np.array([samples[place][0] for place in taken])
        yield rows, np.stack([samples[place][1] for place in taken])


def make_optimizer(
    tower: Tower, options: TowerOptions, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW with a rate for the encoder and one for the rest; both rise, then fall to zero."""
    encoder = [p for p in tower.encoder.parameters() if p.requires_grad]
    rest = [p for n, p in tower.named_parameters() if not n.startswith("encoder.")]
    optimizer = torch.optim.AdamW(
        [{"params": encoder, "lr": options.encoder_rate}, {"params": rest, "lr": options.rate}],
        weight_decay=0.01,
    )
    rise = max(1, round(options.warmup * steps))

    def factor(step: int) -> float:
        return (step + 1) / rise if step < rise else max(0.0, (steps - step) / max(1, steps - rise))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


@torch.inference_mode()
def story_vectors(
    tower: Tower, titles: Sequence[str], folder: Path, batch: int = 256
) -> NDArray[np.float32]:
    """The tower's vectors of all titles, [titles, width]."""
    device = next(tower.parameters()).device
    tokens = Tokens(titles, folder, device)
    order = tokens.lengths.argsort()
    found = torch.zeros(len(titles), tower.nobody.shape[0], device=device)
    for start in range(0, len(titles), batch):
        some = order[start : start + batch]
        found[some] = tower.stories(*tokens.of(some))
    return found.cpu().numpy()
