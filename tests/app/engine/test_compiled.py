"""Which models run compiled, and what is told where a model can't be compiled."""

from pathlib import Path

import pytest

from app.engine.compiled import READY, compiled_folder
from app.engine.compiling import compile_model
from app.engine.options import vllm_options
from app.errors import StartupError
from app.settings import Settings


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("VLLM_CACHE_ROOT", "TORCH_COMPILE_DISABLE"):
        monkeypatch.setenv(name, "before")  # so that it is as before after the test
        monkeypatch.delenv(name)
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 2}')
    folder = compiled_folder(tmp_path, vllm_options(tmp_path, True, {}, {}))
    folder.mkdir(parents=True)
    (folder / READY).touch()
    return tmp_path


def is_compiled(model: Path, **given: object) -> bool:
    return not vllm_options(model, True, {}, given)["enforce_eager"]


def test_a_model_runs_compiled_where_that_has_been_done_for_the_same_options(model: Path) -> None:
    assert is_compiled(model)
    assert not is_compiled(model, max_model_len=512)
    assert not is_compiled(model, enforce_eager=True)
    assert "enforce_eager" not in vllm_options(model, False, {}, {})
    (model / "config.json").write_text('{"num_hidden_layers": 3}')
    assert not is_compiled(model)


def test_an_unfinished_compilation_is_none(model: Path) -> None:
    (compiled_folder(model, vllm_options(model, True, {}, {})) / READY).unlink()
    assert not is_compiled(model)


def test_without_a_compiler_nothing_runs_compiled(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "none-such")
    assert not is_compiled(model)


def test_compiling_where_the_settings_say_no_is_an_error(model: Path) -> None:
    settings = Settings(model=model, engine={"enforce_eager": True})
    with pytest.raises(StartupError, match="engine option 'enforce_eager' is set"):
        compile_model(settings)
