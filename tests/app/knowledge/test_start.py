"""What of a ranker can't be served: broken files are named and left out at the start, settings that
don't fit end it, and an adapter is refused while serving."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import REGISTRY

from app.engine.fake import FakeEngine
from app.errors import StartupError
from app.knowledge.encoders import Encoders
from app.knowledge.ranking import load_ranking
from app.likeness.tower import TowerFile
from app.main import create_app
from app.service import Service
from app.settings import Settings
from tests.support.adapter_calls import error, load
from tests.support.adapter_folders import write_adapter
from tests.support.models import SMOLLM2
from tests.support.rankers import write_ranker
from tests.support.servers import started
from tests.support.site_calls import ask
from tests.support.stores import make_store
from training.ranking.tower_model import Tower


@pytest.fixture
def model(ranked: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may spoil."""
    return Path(shutil.copytree(ranked, tmp_path / "model", symlinks=True))


def make(model: Path, encoder: Path, tmp_path: Path, **settings: Any) -> Service:
    found = Settings(model=model, encoder=encoder, state=tmp_path / "state", **settings)
    service: Service = create_app(found, FakeEngine()).state.service
    return service


def describe(folder: Path, **changes: Any) -> None:
    file = folder / "ranker.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def write_wider(folder: Path, tower: Tower) -> None:
    """A tower of an encoder with more numbers."""
    wider = {
        name: np.ones(tuple(2 * n if n > 3 else n for n in tensor.shape), np.float16)
        for name, tensor in tower.to_file("tiny").tensors.items()
    }
    encoder = json.loads((folder / "ranker.json").read_text())["encoder"]
    TowerFile(encoder, wider).write(folder)


def test_a_missing_encoder_is_named_with_its_setting(
    model: Path, encoder: Path, tmp_path: Path
) -> None:
    missing = tmp_path / encoder.name
    with pytest.raises(StartupError, match=r"the setting `encoder` names it.*download minilm"):
        make(model, missing, tmp_path)
    with pytest.raises(StartupError, match=r"needs the sentence encoder .* setting `encoder` is"):
        make(model, tmp_path / "other", tmp_path)


def test_a_ranker_for_another_encoder_is_refused(
    model: Path, encoder: Path, tmp_path: Path
) -> None:
    describe(model, encoder="another")
    with pytest.raises(StartupError, match="needs the sentence encoder another"):
        make(model, encoder, tmp_path)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "ranker.json": (lambda folder: cut(folder / "ranker.json"), "ranker.json"),
    "ranker.txt": (lambda folder: cut(folder / "ranker.txt"), "ranker.txt is not the file"),
    "first stage": (lambda folder: cut(folder / "first_stage.txt"), "first_stage.txt is not"),
    "no trees": (lambda folder: (folder / "ranker.txt").unlink(), "ranker.txt can't be read"),
    "tower": (lambda folder: cut(folder / "tower.npz"), "tower.npz can't be read"),
    "version": (lambda folder: describe(folder, version=0), "version 0 of the features"),
    "features": (lambda folder: describe(folder, features=["rate"]), "fit it again"),
}


def broken_gauge(model: str) -> float | None:
    return REGISTRY.get_sample_value("frontpage_ranker_broken", {"model": model})


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_model_with_a_broken_ranker_is_served_by_text_alone(
    model: Path, encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    spoil, complaint = BROKEN[kind]
    spoil(model)
    settings = Settings(model=model, encoder=encoder, state=tmp_path / "state", model_name=kind)
    app = create_app(settings, FakeEngine())
    [line] = [line for line in caplog.messages if "ranker" in line]
    assert line.startswith(f"{kind} is served without its ranker, by text alone: ")
    assert complaint in line
    assert broken_gauge(kind) == 1
    assert not app.state.service.can_degrade  # so the port opens only when all is ready
    async with started(app) as client:
        answer = await ask(client, "/rank", candidates=["one", "two"])
        assert (answer["ranker"], answer["degraded"]) == (False, False)
        assert {one["stage"] for one in answer["results"]} == {"text"}


async def test_so_is_an_adapter_of_the_settings(
    root: Path, encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut(root / "good" / "ranker.txt")
    adapters = {"spoilt": root / "good"}
    settings = Settings(model=SMOLLM2, state=tmp_path / "state", encoder=encoder, adapters=adapters)
    async with started(create_app(settings, FakeEngine())) as client:
        answer = await ask(client, "/rank", model="spoilt", candidates=["one", "two"])
        assert not answer["ranker"]
    assert any(line.startswith("spoilt is served without") for line in caplog.messages)
    assert broken_gauge("spoilt") == 1


def test_a_tower_of_another_encoder_is_refused(
    model: Path, encoder: Path, tower: Tower, tmp_path: Path
) -> None:
    tower.to_file("another").write(model)
    with pytest.raises(StartupError, match="needs the sentence encoder another"):
        make(model, encoder, tmp_path)
    write_wider(model, tower)
    with pytest.raises(StartupError, match=r"tower\.npz.* tuned on another encoder"):
        make(model, encoder, tmp_path)


async def test_an_encoder_that_can_not_be_loaded_ends_the_start(
    ranked: Path, encoder: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(encoder, tmp_path / encoder.name))
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    service = make(ranked, broken, tmp_path)
    with pytest.raises(StartupError, match="can't load the sentence encoder"):
        async with service.running():
            pytest.fail("it is running")
    assert service.supervision.state == "loading"


async def test_layers_that_the_encoder_does_not_have_end_the_start(
    model: Path, encoder: Path, tower: Tower, tmp_path: Path
) -> None:
    tensors = {
        name.replace(".layer.1.", ".layer.7."): tensor
        for name, tensor in tower.to_file(encoder.name).tensors.items()
    }
    TowerFile(encoder.name, tensors).write(model)
    with pytest.raises(StartupError, match="tuned on another encoder"):
        async with make(model, encoder, tmp_path).running():
            pytest.fail("it is running")


def test_another_half_life_is_warned_about(
    ranked: Path, encoder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoders = Encoders(encoder, make_store(f"sqlite:///{tmp_path / 'store.sqlite'}"))
    with caplog.at_level(logging.WARNING, "frontpage.knowledge"):
        assert load_ranking(ranked, encoders, None) is not None
        assert not caplog.messages
        assert load_ranking(ranked, encoders, 3600.0) is not None
    [message] = caplog.messages
    assert "live_half_life_hours" in message


@pytest.fixture
def root(tmp_path: Path, encoder: Path, tower: Tower) -> Path:
    """An adapter with a good ranker, and some that can't be served."""
    root = tmp_path / "root"
    for name in ("good", "other", "wide", "layers", "short", "cut"):
        folder = write_ranker(write_adapter(root / name), encoder.name)
        tower.to_file(encoder.name).write(folder)
    describe(root / "other", encoder="another")
    write_wider(root / "wide", tower)
    tensors = dict(tower.to_file(encoder.name).tensors)
    layers = {name.replace(".layer.1.", ".layer.7."): one for name, one in tensors.items()}
    TowerFile(encoder.name, layers).write(root / "layers")
    short = {name: one[:1] if name.endswith(".down") else one for name, one in tensors.items()}
    TowerFile(encoder.name, short).write(root / "short")
    cut(root / "cut" / "first_stage.txt")
    return root


@pytest.fixture
def settings(tmp_path: Path, root: Path, encoder: Path) -> Settings:
    return Settings(model=SMOLLM2, state=tmp_path / "state", adapter_root=root, encoder=encoder)


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("other", "the setting `encoder` is"),
        ("wide", "tuned on another encoder"),
        ("layers", "tuned on another encoder"),
        ("short", "has a shape that does not fit"),
        ("cut", "first_stage.txt is not the file"),
    ],
)
async def test_an_adapter_that_can_not_be_ranked_leaves_the_old_one_serving(
    client: httpx.AsyncClient, engine: FakeEngine, path: str, complaint: str
) -> None:
    assert (await load(client, "news", "good")).status_code == 201
    before = await ask(client, "/rank", model="news", candidates=["one", "two"])
    assert before["ranker"]
    response = await load(client, "news", path)
    assert error(response) == (422, "adapter_rejected", "path")
    assert complaint in response.json()["error"]["message"]
    after = await ask(client, "/rank", model="news", candidates=["one", "two"])
    assert after["results"] == before["results"]
    assert engine.adapters == {"news@1"}


async def test_the_settings_adapters_have_rankers_too(
    tmp_path: Path, root: Path, encoder: Path
) -> None:
    def make_app(folder: str) -> Any:
        adapters = {"news": root / folder}
        return create_app(
            Settings(model=SMOLLM2, state=tmp_path / "s", encoder=encoder, adapters=adapters),
            FakeEngine(),
        )

    async with started(make_app("good")) as client:
        assert (await ask(client, "/rank", model="news", candidates=["one"]))["ranker"]
    with pytest.raises(StartupError, match="the setting `encoder` is"):
        make_app("other")
    with pytest.raises(StartupError, match="tuned on another encoder"):
        async with started(make_app("layers")):
            pytest.fail("it is running")
