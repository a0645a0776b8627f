"""Ctrl-C: noticed during a backward pass, and no partial result."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from torch import nn

from tests.support.tiny_training import finetune
from training.__main__ import main
from training.packed import scorer
from training.tuning.interrupts import notice_interrupts


class Stack(nn.Module):
    """Layers whose way back takes about a second together, in one call of PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(1024, 1024) for _ in range(32))

    def get_decoder(self) -> nn.Module:
        return self


def test_a_backward_pass_ends_at_the_next_layer() -> None:
    model = Stack()
    notice_interrupts(model)
    states = torch.randn(4096, 1024)
    for layer in model.layers:
        states = layer(states)
    loss = states.square().mean()

    def interrupt() -> None:
        while model.layers[-2].weight.grad is None:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        loss.backward()
    assert model.layers[-1].weight.grad is not None
    assert model.layers[0].weight.grad is None


def stop(*_: object, **__: object) -> NoReturn:
    raise KeyboardInterrupt


def test_calibration_and_scoring_leave_nothing(
    tiny: Path,
    prepared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, scores = tmp_path / "out", tmp_path / "runs" / "scores.parquet"
    finetune(tiny, prepared, out, max_samples=5)
    before = (out / "profile.json").read_bytes()
    monkeypatch.setattr(scorer, "collate", stop)
    places = ["--data", str(prepared), "--base", str(tiny)]
    assert main(["calibrate", str(out), *places]) == 130
    assert "interrupted; no partial result" in capsys.readouterr().err
    assert (out / "profile.json").read_bytes() == before
    assert main(["score", "--model", str(out), *places, "--output", str(scores)]) == 130
    assert not scores.parent.exists()
