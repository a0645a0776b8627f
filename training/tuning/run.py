"""One training run, from a prepared data set to a folder that can be served."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments, set_seed
from transformers.utils import logging as transformers_logging

from app.engine.fingerprint import fingerprint
from app.files import first_line
from app.scoring.encoder import Encoder
from app.scoring.profile import PROFILE_FILE
from app.scoring.prompt import PromptBuilder
from training.data.prepared import PreparedData
from training.errors import TrainingError
from training.folders import only_writer
from training.machine import multiplies_bfloat16
from training.packed.objective import Task
from training.packed.rows import AnswerTokens, Group, separate
from training.progress import is_first_process, progress
from training.tuning import methods
from training.tuning.calibration import Fit, fit
from training.tuning.checks import serving_limits
from training.tuning.config import FinetuneConfig
from training.tuning.groups import make_rows, read_answers, read_groups
from training.tuning.interrupts import notice_interrupts
from training.tuning.outlook import check_outlook
from training.tuning.run_folder import (
    STATE_FILE,
    begin,
    check_output,
    describe_start,
    explained,
    open_output,
)
from training.tuning.run_record import Origin, describe_run, plot_loss
from training.tuning.trainer import AnswerTrainer, make_arguments


def finetune(config: FinetuneConfig, base: Path, data: Path, output: Path, resume: bool) -> None:
    """Train, calibrate, and write the result to `output`. resume: go on from its last checkpoint.

    Raises TrainingError for folders and options that can't be used, and for a shortage of memory or
    disk.
    """
    started = time.perf_counter()
    prepared = PreparedData(data)
    check_output(output)
    quieten()
    alone = only_writer(output) if is_first_process() else nullcontext()
    with alone, explained(config, output):
        trainer = make_trainer(config, base, prepared, output)
        origin = Origin(base.name, fingerprint(base), prepared.data_hash)
        start = describe_start(config, origin)
        checkpoint = open_output(output, start, base, resume)
        check_outlook(trainer, prepared)
        if trainer.is_world_process_zero():
            begin(output, start, checkpoint)
            print(f"resuming from {checkpoint}" if checkpoint else "starting a new run", flush=True)
        trainer.accelerator.wait_for_everyone()
        with progress("training") as work:
            trainer.run_log.work = work
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        found = calibrate(trainer, prepared)
        finish(trainer, found, origin, round(time.perf_counter() - started, 1))


def quieten() -> None:
    """Silence libraries' progress bars and hints; warnings and errors stay."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # offers kernels from the network


def make_trainer(
    config: FinetuneConfig, base: Path, data: PreparedData, output: Path
) -> AnswerTrainer:
    """Everything a run needs, loaded and ready to train. Raises TrainingError."""
    on_gpu = torch.cuda.is_available()
    bf16 = in_bfloat16(config, on_gpu)
    arguments = make_arguments(config, output, bf16)
    set_seed(config.seed)
    builder = make_builder(config, base, data)
    answers = read_answers(builder, base)
    check_validation(config, data)
    with progress("reading the training split"):
        groups = read_groups(config, data, builder, answers)
    with progress(f"loading {base}"):
        model = methods.create(config, base, place(arguments, on_gpu, bf16))
    if not on_gpu:
        notice_interrupts(model)
    parts: dict[str, Any] = {
        "model": model,
        "task": make_task(config, builder, answers),
        "rows": make_rows(config, groups),
        "validation": data.sample_evenly("val", config.val_size) if config.val_size else [],
    }
    try:
        trainer = AnswerTrainer(
            arguments=arguments, config=config, builder=builder, base=base, **parts
        )
    except ValueError as error:  # options of the trainer that contradict each other
        raise TrainingError(f"options: {first_line(error)}") from error
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(trainer.run_log)
    if trainer.is_world_process_zero():
        announce(trainer, groups)
    return trainer


def in_bfloat16(config: FinetuneConfig, on_gpu: bool) -> bool:
    """Whether matrix products run in bfloat16, as the option bf16 asks."""
    if config.bf16 == "auto":
        return on_gpu or multiplies_bfloat16()
    return on_gpu if config.bf16 is None else config.bf16


def check_validation(config: FinetuneConfig, data: PreparedData) -> None:
    """Raise TrainingError where the impressions that training is to be validated or calibrated on
    are none, or have clicks alone or non-clicks alone."""
    calibrated = config.calibration_impressions
    calibrated = data.count("val") if calibrated is None else calibrated
    for option, count in (("val_size", config.val_size), ("calibration_impressions", calibrated)):
        if not count:
            continue
        labels = {label for flags in data.labels_evenly("val", count) for label in flags}
        if labels != {True, False}:
            found = "clicks" if True in labels else "non-clicks"
            raise TrainingError(
                f"{data.folder}: the val split's impressions that {option} asks for have {found}"
                f" alone: ask for more, or set {option} to 0"
            )


def make_builder(config: FinetuneConfig, base: Path, data: PreparedData) -> PromptBuilder:
    """How the run builds its prompts. Raises TrainingError for a base without a tokenizer."""
    tokenizer = base / "tokenizer.json"
    if not tokenizer.is_file():
        raise TrainingError(f"{base} holds no tokenizer.json: not a Hugging Face model folder")
    profile = config.profile(base_model=base.name, data_hash=data.data_hash)
    return PromptBuilder(Encoder(tokenizer), profile)


def place(arguments: TrainingArguments, on_gpu: bool, bf16: bool) -> methods.Placement:
    """Where the model goes, by what Trainer has been told."""
    sharded = any(f"ACCELERATE_USE_{name}" in os.environ for name in ("FSDP", "DEEPSPEED"))
    return methods.Placement(on_gpu, None if sharded else arguments.device, bf16)


def make_task(config: FinetuneConfig, builder: PromptBuilder, answers: AnswerTokens) -> Task:
    """What the model is asked while it trains."""
    return Task(
        yes=builder.yes,
        no=builder.no,
        objective=config.objective,
        mass_weight=config.mass_weight,
        click_weight=config.click_weight,
        answer_length=answers.longest,
    )


def announce(trainer: AnswerTrainer, groups: Sequence[Group]) -> None:
    """Print what will be trained, and on how much."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    trained = sum(p.numel() for p in methods.trainable(model).values())
    total = model.num_parameters()
    print(f"trainable parameters: {trained:,} of {total:,} ({trained / total:.3%})")
    for limit in serving_limits(trainer.config, model):
        print(f"warning: {limit}")
    samples = sum(len(group.branches) for group in groups)
    alone = sum(map(len, separate(groups)))
    tokens = sum(map(len, (group for row in trainer.rows for group in row)))
    print(
        f"{samples:,} samples in {len(trainer.rows):,} rows of {tokens:,} tokens"
        f" ({alone:,} one by one); {len(trainer.validation):,} validation impressions",
        flush=True,
    )


def calibrate(trainer: AnswerTrainer, data: PreparedData) -> Fit | None:
    """Fit probabilities on validation impressions with their natural candidates; None where none
    are asked for. Every process must call. Raises TrainingError."""
    count = trainer.config.calibration_impressions
    count = data.count("val") if count is None else count
    if not count:
        return None
    impressions = data.sample_evenly("val", count)
    return fit(impressions, trainer.score(impressions, "calibration"), trainer.config.threshold)


def finish(trainer: AnswerTrainer, found: Fit | None, origin: Origin, seconds: float) -> None:
    """Write the result, then move it beside the checkpoints file by file, the profile last.

    Killed in between, the run has no profile yet; resumed, it does this again. seconds: what the
    run took.
    """
    output = Path(str(trainer.args.output_dir))
    partial = output / ".partial"
    trainer.save_result(partial)
    if not trainer.is_world_process_zero():
        return
    profile = trainer.builder.profile
    profile = found.apply(profile) if found is not None else profile
    trainer.state.save_to_json(str(partial / STATE_FILE))
    if trainer.config.plot_loss:
        plot_loss(trainer.state.log_history, partial / "training_loss.png")
    describe_run(trainer.config, origin, seconds, trainer.speed(), found).write(partial)
    (partial / PROFILE_FILE).write_text(profile.model_dump_json(indent=1) + "\n", encoding="utf-8")
    for file in sorted(partial.iterdir(), key=lambda file: file.name == PROFILE_FILE):
        file.replace(output / file.name)
    partial.rmdir()
    print(found or "not calibrated: no impressions asked for")
    print(f"{output} is ready", flush=True)
