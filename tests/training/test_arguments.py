"""Every argument of a command reaches its typed options, and every option has an argument."""

import argparse
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import COMMANDS
from training.arguments import from_namespace
from training.base_models.options import DownloadOptions
from training.data.options import CollectOptions, Original, PrepareOptions, Temporal
from training.evaluation.options import EstimateOptions, EvaluateOptions, NamedModel, ReportOptions
from training.merging.options import MergeOptions, UndoOptions
from training.prepare import read_options
from training.quantizing.options import QuantizeOptions
from training.ranking.options import RankCommand, ScoreCommand, TowerCommand
from training.refreshing.options import RefreshOptions
from training.tuning.options import CalibrateOptions, FinetuneOptions

OPTIONS: dict[str, tuple[type[Any], ...]] = {
    "download": (DownloadOptions,),
    "collect": (CollectOptions,),
    "prepare": (PrepareOptions, Temporal),
    "finetune": (FinetuneOptions,),
    "calibrate": (CalibrateOptions,),
    "merge": (MergeOptions,),
    "quantize": (QuantizeOptions,),
    "undo": (UndoOptions,),
    "evaluate": (EvaluateOptions,),
    "estimate": (EstimateOptions,),
    "report": (ReportOptions,),
    "tower": (TowerCommand,),
    "score": (ScoreCommand,),
    "rank": (RankCommand,),
    "refresh": (RefreshOptions,),
}


NOT_OPTIONS = {"help", "describe"}
"""What a command does something else for."""


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    import_module(f"training.{command}").add_arguments(parser)
    return parser


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_and_options_have_the_same_names(command: str) -> None:
    arguments = {action.dest for action in parser_of(command)._actions} - NOT_OPTIONS
    assert arguments == {field.name for cls in OPTIONS[command] for field in fields(cls)}


def test_each_recipe_has_its_own_options() -> None:
    parser = parser_of("prepare")
    given = parser.parse_args(["--train", "t", "--liked", "3", "--layout", "original"])
    options = read_options(given)
    assert options.recipe == Temporal(liked=3, layout="original")
    assert options.folders() == {"train": Path("t")}
    assert isinstance(
        read_options(parser.parse_args(["--train", "t", "--recipe", "original"])).recipe, Original
    )


def test_models_and_engine_options_are_parsed_once() -> None:
    words = ["--data", "d", "--model", "base=models/base", "--model", "a=b=c"]
    given = parser_of("evaluate").parse_args([*words, "--engine", '{"max_model_len": 1024}'])
    options = from_namespace(EvaluateOptions, given)
    assert options.models == [NamedModel("base", Path("models/base")), NamedModel("a", Path("b=c"))]
    assert options.engine_options == {"max_model_len": 1024}
    recorded = options.recorded()
    assert list(recorded)[:4] == ["command", "data", "split", "model"]  # none without a value
    assert recorded["model"] == ["base=models/base", "a=b=c"]
    assert recorded["speed_seconds"] == 5
