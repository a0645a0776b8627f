"""Packed rows give each candidate exactly what it would get alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.scoring.prompt import PromptTooLong
from tests.support.tiny_training import make_builder
from training.data.prepared import Impression, PreparedData
from training.errors import TrainingError
from training.packed.objective import Task
from training.packed.prompts import build_prompts
from training.packed.rows import Group, collate, group_prompts, pack, separate
from training.packed.scorer import score
from training.tuning import methods
from training.tuning.config import FinetuneConfig
from training.tuning.groups import read_answers, read_groups
from training.tuning.run import make_task

LIMIT = 512


@pytest.fixture(scope="module")
def data(prepared: Path) -> PreparedData:
    return PreparedData(prepared)


def groups_of(tiny: Path, data: PreparedData, config: FinetuneConfig) -> tuple[list[Group], Task]:
    builder = make_builder(tiny)
    answers = read_answers(builder, tiny)
    groups = read_groups(config, data, builder, answers)
    return groups, make_task(config, builder, answers)


def loss_and_gradients(model: Any, rows: Sequence[list[Group]], task: Task) -> list[torch.Tensor]:
    """One batch's loss, and the gradients of all that is trained."""
    model.zero_grad()
    batch = {name: torch.from_numpy(array) for name, array in collate(rows).items()}
    loss = model(**batch, task=task)["loss"]
    loss.backward()
    trained = methods.trainable(model).values()
    return [loss.detach(), *(p.grad.clone() for p in trained if p.grad is not None)]


@pytest.mark.parametrize(("method", "objective"), [("full", "sft"), ("p_tuning", "label")])
def test_packing_changes_no_loss(
    tiny: Path, data: PreparedData, method: Any, objective: Any
) -> None:
    config = FinetuneConfig(
        method=method, objective=objective, max_samples=15, cutoff_len=LIMIT, click_weight=2.0
    )
    groups, task = groups_of(tiny, data, config)
    torch.manual_seed(0)
    model = methods.create(config, tiny, methods.Placement())
    alone = loss_and_gradients(model, [[group] for group in separate(groups)], task)
    for rows in (pack(groups, 2048, seed=1), pack(separate(groups), 700, seed=2)):
        packed = loss_and_gradients(model, rows, task)
        assert len(packed) == len(alone) > 1
        for ours, theirs in zip(packed, alone, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_loss_is_what_its_definition_says(tiny: Path, data: PreparedData) -> None:
    """Against each sample's own plain forward pass, with transformers' own mask and logits."""
    config = FinetuneConfig(mass_weight=0.7, click_weight=3.0, max_samples=10, cutoff_len=LIMIT)
    groups, task = groups_of(tiny, data, config)
    model = methods.load_base(tiny)
    binary, sft, tokens = 0.0, 0.0, 0
    for group in separate(groups):
        branch = group.branches[0]
        prompt = [*group.prefix, *branch.tail]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *branch.answer[:-1]]])).logits[0]
        logs = logits[len(prompt) - 1 :].log_softmax(-1)
        difference = logs[0, task.yes] - logs[0, task.no]
        weight = 3.0 if branch.clicked else 1.0
        sign = 1.0 if branch.clicked else -1.0
        binary -= weight * float(torch.nn.functional.logsigmoid(sign * difference))
        each = -logs[torch.arange(len(branch.answer)), torch.tensor(branch.answer)]
        sft += weight * float(each[0]) + float(each[1:].sum())
        tokens += len(branch.answer)
    expected = binary / len(separate(groups)) + 0.7 * sft / tokens
    batch = {name: torch.from_numpy(array) for name, array in collate([groups]).items()}
    with torch.no_grad():
        assert float(model(**batch, task=task)["loss"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("method", ["full", "p_tuning"])
def test_scores_are_those_of_plain_prompts(tiny: Path, data: PreparedData, method: Any) -> None:
    """The method's own forward pass as any program calls it; PEFT adds the prefix for p_tuning."""
    model = methods.create(FinetuneConfig(method=method), tiny, methods.Placement()).eval()
    builder = make_builder(tiny)
    impressions = list(data.impressions("val", 5))
    scores = score(model, builder, impressions, batch_tokens=600, limit=LIMIT)
    for impression, (log_yes, log_no) in zip(impressions, scores, strict=True):
        prompts = builder.build(impression.reader, impression.candidates, LIMIT)
        assert len(prompts) == len(log_yes) > 1
        for prompt, yes, no in zip(prompts, log_yes, log_no, strict=True):
            ids = torch.tensor([prompt.tokens])
            with torch.no_grad():
                out = model(input_ids=ids, attention_mask=torch.ones_like(ids))
            expected = out.logits[0, -1].log_softmax(-1)[[builder.yes, builder.no]]
            assert (yes, no) == pytest.approx(tuple(expected.tolist()), abs=1e-4)


def test_labels_have_float32_logits_under_a_half_precision_head(
    tiny: Path, data: PreparedData
) -> None:
    """bfloat16 logits of this size lie on a grid of 2^-6 or coarser; ties would be many."""
    model = methods.load_base(tiny, torch.bfloat16)
    impressions = list(data.impressions("val"))
    scores = score(model, make_builder(tiny), impressions, limit=LIMIT)
    odds = np.concatenate([yes - no for yes, no in scores])
    assert len(np.unique(odds)) > 0.9 * len(odds)


def test_rows_are_full_and_hold_everything_once(tiny: Path, data: PreparedData) -> None:
    groups, _ = groups_of(tiny, data, FinetuneConfig(cutoff_len=LIMIT))
    rows = pack(groups, 2048, seed=0)
    assert sorted(map(id, groups)) == sorted(id(group) for row in rows for group in row)
    sizes = [sum(map(len, row)) for row in rows]
    assert max(sizes) <= 2048
    assert sum(sizes) / (2048 * len(rows)) > 0.8
    assert pack(groups, 2048, seed=0) == rows
    assert any(pack(groups, 2048, seed=seed) != rows for seed in range(1, 9))


def test_a_prefix_is_repeated_where_a_row_is_too_short(tiny: Path, data: PreparedData) -> None:
    builder = make_builder(tiny)
    impression = max(data.impressions("val"), key=lambda item: len(item.candidates))
    prompts, _ = build_prompts(builder, impression.reader, impression.candidates, LIMIT, "i")
    budget = len(prompts[0].prefix) + 60
    groups = group_prompts(prompts, impression.clicked, None, budget)
    assert len(groups) > 1
    assert max(map(len, groups)) <= budget
    places = [branch.place for group in groups for branch in group.branches]
    assert sorted(places) == list(range(len(prompts)))


def test_a_story_that_fits_nowhere_is_named(tiny: Path, data: PreparedData) -> None:
    builder = make_builder(tiny)
    impression: Impression = next(data.impressions("val", 1))
    with pytest.raises(TrainingError, match=r"impression 7: .* raise cutoff_len") as e:
        build_prompts(builder, impression.reader, impression.candidates, 20, "7")
    assert not isinstance(e.value, PromptTooLong)
