"""transformers' Trainer on packed rows, with the model's own loss and evaluation by ranking."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainingArguments
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from app.files import first_line
from app.scoring.profile import PROFILE_FILE
from app.scoring.prompt import PromptBuilder
from training.data.prepared import Impression
from training.errors import TrainingError
from training.folders import write_whole
from training.packed.objective import Task
from training.packed.rows import UNKNOWN, Group, collate
from training.packed.scorer import Scores, score
from training.tuning import methods
from training.tuning.config import FinetuneConfig, check_known
from training.tuning.run_log import RunLog
from training.tuning.run_record import TrainingSpeed
from training.tuning.validation import measure

FLEX_BLOCK = 128
"""flex_attention's block. Rows of a multiple of this length need no masked edge."""
PASSED_ON = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "num_train_epochs",
    "lr_scheduler_type",
    "optim",
    "gradient_checkpointing",
    "eval_steps",
    "save_steps",
    "logging_steps",
    "seed",
)
"""Options that TrainingArguments has under the same names."""


def make_arguments(config: FinetuneConfig, output: Path, bf16: bool) -> TrainingArguments:
    """Trainer's options for a run. Raises TrainingError for an option that it refuses."""
    options: dict[str, Any] = {
        **{name: getattr(config, name) for name in PASSED_ON},
        "warmup_steps": config.warmup_ratio,
        "bf16": bf16,
        "eval_strategy": "steps" if config.val_size else "no",
        # bitsandbytes' 8-bit product keeps its input where only the reentrant kind can drop it.
        "gradient_checkpointing_kwargs": {
            "use_reentrant": config.method == "qlora" and config.quantization_bit == 8
        },
        "save_strategy": "steps",
        "remove_unused_columns": False,
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        # Neither copies nor checks of each loss may wait for the GPU: its queue would run dry.
        "accelerator_config": {"non_blocking": torch.cuda.is_available()},
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "metric_for_best_model": "eval_loss",
    }
    check_options(config.trainer)
    try:
        made = TrainingArguments(**(options | config.trainer | {"output_dir": str(output)}))
        for report in get_reporting_integration_callbacks(made.report_to):
            report()  # Trainer does the same once the model is loaded
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        raise TrainingError(f"options: {first_line(error)}") from error
    return made


def check_options(given: Mapping[str, Any]) -> None:
    """Raise TrainingError for options that TrainingArguments lacks, and for texts in the place of
    numbers, which it takes without a word."""
    known = {field.name: field.default for field in dataclasses.fields(TrainingArguments)}
    check_known("trainer", given, known)
    for name, value in given.items():
        if isinstance(known[name], int | float) and isinstance(value, str):
            raise TrainingError(f"trainer.{name}: {value!r} is not a number, true or false")


class Rows(torch.utils.data.Dataset[list[Group]]):
    """Packed rows, as the data set that Trainer takes."""

    def __init__(self, rows: list[list[Group]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> list[Group]:
        return self.rows[index]


def to_tensors(
    rows: Sequence[list[Group]], multiple: int, length: int | None
) -> dict[str, torch.Tensor]:
    """A batch of rows; see training.packed.rows.collate."""
    tensors = {name: torch.from_numpy(a) for name, a in collate(rows, multiple, length).items()}
    # Trainer counts all of shift_labels, but leaves the first of labels out.
    return tensors | {"shift_labels": tensors["labels"]}


class AnswerTrainer(Trainer):
    """Trains on rows, evaluates on impressions, and saves what the method learns."""

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        config: FinetuneConfig,
        task: Task,
        builder: PromptBuilder,
        rows: list[list[Group]],
        validation: Sequence[Impression],
        base: Path,
    ) -> None:
        # Rows are nearly full, so a fixed length costs little and compiled code meets one shape.
        # Without compiled code, as on a CPU, padding would only cost time.
        is_plain = arguments.device.type == "cpu" and not config.compile
        length = config.row_tokens if config.packing != "none" and not is_plain else None
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=Rows(rows),
            eval_dataset=Rows([]) if validation else None,
            data_collator=partial(
                to_tensors, multiple=8 if is_plain else FLEX_BLOCK, length=length
            ),
        )
        self.config = config
        self.rows = rows
        self.task = task
        self.builder = builder
        self.validation = validation
        self.base = base
        self.run_log = RunLog(Path(str(arguments.output_dir)))
        self.tokens: Any = 0
        self.answers: Any = 0
        self.started = self.train_s = self.paused_s = 0.0
        self.is_result = False
        self.unchecked: list[tuple[int, torch.Tensor]] = []
        """Steps whose losses are still on the GPU, with these."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(model, inputs | {"task": self.task}, *args, **kwargs)

    def train(self, *args: Any, **kwargs: Any) -> Any:
        self.started = time.perf_counter()
        result = super().train(*args, **kwargs)
        self.train_s = time.perf_counter() - self.started
        self.check_losses()
        return result

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self.unchecked.append((self.state.global_step + 1, loss.detach()))
        if not loss.is_cuda:  # reading one from a GPU would let its queue run dry
            self.check_losses()
        return loss

    def check_losses(self) -> None:
        """Raise TrainingError for the first step whose loss is not finite. On a GPU this is called
        whenever something else has waited for it."""
        unchecked, self.unchecked = self.unchecked, []
        for step, loss in unchecked:
            if not loss.isfinite():
                raise TrainingError(
                    f"the loss is {loss.item()} at step {step}: lower learning_rate"
                    f" ({self.config.learning_rate:g}), or compute more exactly (bf16: false,"
                    " dtype: float32)"
                )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add to a training loss what was done in how many seconds. Reading the loss has waited for
        the GPU, so the counts cost no further wait."""
        done: dict[str, float] = {}
        if "loss" in logs:
            self.check_losses()
            done = {
                "tokens": int(self.tokens),
                "answers": int(self.answers),
                "seconds": round(time.perf_counter() - self.started - self.paused_s, 3),
            }
        super().log(logs | done, *args, **kwargs)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """Count what the next step learns from, in tensors, so that nothing waits for a GPU."""
        batches, items = super().get_batch_samples(*args, **kwargs)
        for batch in batches:
            self.tokens += batch["group"].count_nonzero()
            self.answers += (batch["clicked"] != UNKNOWN).sum()
        return batches, items

    def evaluate(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> Any:
        """Score the validation impressions; see training.tuning.validation.measure."""
        self.check_losses()
        start = time.perf_counter()
        found = {
            f"{metric_key_prefix}_{name}": value
            for name, value in measure(
                self.validation, self.score(self.validation, "validation")
            ).items()
        }
        self.paused_s += time.perf_counter() - start
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def score(self, impressions: Sequence[Impression], what: str) -> Scores:
        """what: how lines of progress call the work."""
        tokens = self.config.row_tokens * self.args.per_device_eval_batch_size
        return score(
            self.model_wrapped if self.is_fsdp_enabled else self.model,
            self.builder,
            impressions,
            tokens,
            self.config.cutoff_len,
            what,
        )

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.check_losses()
        start = time.perf_counter()
        super()._save_checkpoint(*args, **kwargs)
        self.paused_s += time.perf_counter() - start

    def save_result(self, folder: Path) -> None:
        """Write all that serving reads. Every process must call."""
        self.is_result = True
        self.save_model(str(folder))

    def speed(self) -> TrainingSpeed:
        """How fast this process has trained, without evaluations and checkpoints."""
        seconds = self.train_s - self.paused_s
        tokens, answers = int(self.tokens), int(self.answers)
        model = self.accelerator.unwrap_model(self.model)
        operations = methods.operations_per_token(model)
        return TrainingSpeed(
            trainable_parameters=sum(p.numel() for p in methods.trainable(model).values()),
            tokens=tokens,
            answers=answers,
            train_seconds=round(seconds, 2),
            tokens_per_second=round(tokens / seconds, 1),
            answers_per_second=round(answers / seconds, 1),
            operations_per_token=operations,
            teraflops_per_second=round(operations * tokens / seconds / 1e12, 3),
        )

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Write a checkpoint: what is trained, in its own precision, to resume from and, except for
        whole models, what serving reads. Raises TrainingError for weights that are not finite."""
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        model = self.accelerator.unwrap_model(self.model)
        state = state_dict or model.state_dict()
        learned = {name: state[name] for name in methods.trainable(model)}
        methods.check_finite(learned)
        if not self.is_result:
            methods.save_trainable(learned, folder)
            # A checkpoint can be served and merged like the result, though uncalibrated.
            profile = self.builder.profile.model_dump_json(indent=1)
            write_whole(folder / PROFILE_FILE, profile + "\n")
        if self.is_result or self.config.method != "full":
            methods.save(model, folder, self.base, self.config.method, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_fsdp_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        else:
            self._restore(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._restore(Path(str(self.state.best_model_checkpoint)))

    def _restore(self, folder: Path) -> None:
        methods.load_trainable(self.accelerator.unwrap_model(self.model), folder)
