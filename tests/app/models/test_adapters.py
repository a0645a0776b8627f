"""Adapters while serving, over HTTP, on the fake engine; the real one is in
tests/integration/test_lora.py."""

import math
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from app.engine.base import LabelScore
from app.engine.fake import FakeEngine
from app.errors import AdapterRejected, StartupError
from app.main import create_app
from app.models.adapter_folder import check_adapter
from app.scoring.prompt import Prompt
from app.settings import Settings
from tests.support.adapter_calls import (
    BASE,
    error,
    load,
    names,
    predict,
    room_for_two,
    three_versions,
)
from tests.support.adapter_folders import STEM, write_adapter
from tests.support.models import SMOLLM2
from tests.support.servers import started

root, settings = pytest.fixture(three_versions), pytest.fixture(room_for_two)


async def test_a_loaded_adapter_becomes_a_model(client: httpx.AsyncClient) -> None:
    assert (await load(client, "news", "v1")).json() == {
        "name": "news",
        "version": 1,
        "source": (await client.get("/adapters")).json()["adapters"][0]["source"],
        "status": "serving",
        "error": None,
    }
    assert await names(client) == [BASE, "news"]
    by_adapter = await predict(client, model="news")
    assert by_adapter["model"] == "news"
    assert by_adapter["probability"] != (await predict(client))["probability"]
    text = (await client.get("/metrics")).text
    assert 'frontpage_adapter_loaded{model="news",version="1"} 1.0' in text


async def test_each_load_is_a_version_with_its_own_copy(
    client: httpx.AsyncClient, root: Path, engine: FakeEngine, settings: Settings
) -> None:
    await load(client, "news", "v1")
    first = await predict(client, model="news")
    (root / "v1" / "adapter_model.safetensors").unlink()  # the copy serves
    assert (await predict(client, model="news"))["probability"] == first["probability"]
    assert (await load(client, "news", "v2")).json()["version"] == 2
    assert engine.adapters == {"news@2"}
    assert (await predict(client, model="news"))["probability"] != first["probability"]
    await client.delete("/adapters/news")
    assert (await load(client, "news", "v2")).json()["version"] == 3  # a number is never used again
    kept = [folder.name for folder in (settings.state / "adapters").iterdir()]
    assert kept == ["news@3"]


@pytest.mark.parametrize(
    "path", ["../outside", "v1/../../outside", "/etc", "", ".", "nothing", "link", "v1/deep\0"]
)
async def test_paths_stay_below_the_root(client: httpx.AsyncClient, root: Path, path: str) -> None:
    write_adapter(root.parent / "outside")
    (root / "link").symlink_to(root.parent / "outside")
    assert error(await load(client, "news", path)) == (422, "invalid_value", "path")
    assert await names(client) == [BASE]


async def test_an_absolute_path_below_the_root_is_fine(
    client: httpx.AsyncClient, root: Path
) -> None:
    assert (await load(client, "news", str(root / "v1"))).status_code == 201


async def test_links_within_a_folder_are_not_followed(
    client: httpx.AsyncClient, root: Path
) -> None:
    weights = root / "v1" / "adapter_model.safetensors"
    weights.rename(root.parent / "secret")
    weights.symlink_to(root.parent / "secret")
    assert error(await load(client, "news", "v1"))[:2] == (422, "adapter_rejected")


@pytest.mark.parametrize("name", ["", "a/b", "news@1", ".hidden", "x" * 65, "a b"])
async def test_names_are_plain(client: httpx.AsyncClient, name: str) -> None:
    assert (await load(client, name, "v1")).status_code == 422


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"rank": 64}, "has rank 64; max_adapter_rank is 16"),
        ({"hidden": 512}, "is (576, 576) in the base, and the adapter was made for (512, 512)"),
        ({"stem": "base_model.model.model.layers.99.self_attn.q_proj"}, "the base has no"),
        ({"stem": "base_model.model.lm_head"}, "adapts the vocabulary"),
        ({"history": -1}, "history"),
    ],
)
async def test_what_does_not_fit_changes_nothing(
    client: httpx.AsyncClient,
    root: Path,
    engine: FakeEngine,
    settings: Settings,
    changes: dict[str, Any],
    complaint: str,
) -> None:
    await load(client, "news", "v1")
    before = await predict(client, model="news")
    write_adapter(root / "bad", **changes)
    response = await load(client, "news", "bad")
    assert error(response)[:2] == (422, "adapter_rejected")
    assert complaint in response.json()["error"]["message"]
    assert (await predict(client, model="news"))["probability"] == before["probability"]
    assert engine.adapters == {"news@1"}
    assert [folder.name for folder in (settings.state / "adapters").iterdir()] == ["news@1"]


def spoil(folder: Path, factor: str, number: float, dtype: torch.dtype) -> Path:
    """The adapter's last number of one factor is replaced."""
    file = folder / "adapter_model.safetensors"
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    tensors[f"{STEM}.{factor}.weight"][-1, -1] = number
    save_file(tensors, file)
    return folder


@pytest.mark.parametrize(
    ("factor", "number", "dtype"),
    [
        ("lora_A", math.nan, torch.bfloat16),
        ("lora_B", -math.inf, torch.float16),
        ("lora_B", math.inf, torch.float32),
    ],
)
async def test_numbers_that_are_not_finite_are_refused_at_load_and_at_start(
    client: httpx.AsyncClient, root: Path, factor: str, number: float, dtype: torch.dtype
) -> None:
    folder = spoil(write_adapter(root / "bad"), factor, number, dtype)
    response = await load(client, "news", "bad")
    assert error(response)[:2] == (422, "adapter_rejected")
    assert f"{factor}.weight holds a NaN or an infinity" in response.json()["error"]["message"]
    assert await names(client) == [BASE]
    with pytest.raises(StartupError, match="holds a NaN or an infinity"):
        create_app(Settings(model=SMOLLM2, adapters={"news": folder}), FakeEngine())


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("adapter_config.json", '"lora_alpha": 16', '"lora_alpha": Infinity', "lora_alpha is inf"),
        ("profile.json", "0.25", "NaN", "calibration.intercept: Input should be a finite number"),
    ],
)
async def test_settings_that_are_not_finite_are_refused(
    client: httpx.AsyncClient, root: Path, file: str, old: str, new: str, complaint: str
) -> None:
    folder = write_adapter(root / "bad", calibration={"intercept": 0.25})
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    response = await load(client, "news", "bad")
    assert error(response)[:2] == (422, "adapter_rejected")
    assert complaint in response.json()["error"]["message"]


class Deaf(FakeEngine):
    """Takes adapters and answers as if they were not there, as vLLM does with foreign tensors."""

    def _score(self, prompt: Prompt, adapter: str | None) -> LabelScore:
        return super()._score(prompt, None)


async def test_an_adapter_without_effect_is_refused(settings: Settings) -> None:
    engine = Deaf()
    app = create_app(settings, engine)
    async with started(app) as client:
        response = await load(client, "news", "v1")
        assert "changes no score" in response.json()["error"]["message"]
        assert engine.adapters == set()
        assert await names(client) == [BASE]


async def test_there_is_room_for_so_many(client: httpx.AsyncClient) -> None:
    for number in (1, 2):
        assert (await load(client, f"news-{number}", f"v{number}")).status_code == 201
    assert error(await load(client, "news-3", "v3"))[:2] == (409, "conflict")
    assert (await load(client, "news-2", "v3")).status_code == 201  # in its predecessor's place


async def test_loading_is_off_without_a_root(tmp_path: Path) -> None:
    app = create_app(Settings(model=SMOLLM2, state=tmp_path), FakeEngine())
    async with started(app) as client:
        assert (await load(client, "news", "v1")).status_code == 409


def test_a_ranker_that_can_not_be_used_is_refused(settings: Settings, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "news")
    (folder / "ranker.json").write_text("{}")
    with pytest.raises(AdapterRejected, match=r"ranker\.json: version: Field required"):
        check_adapter(folder, settings)


def test_files_are_checked_against_the_base(settings: Settings, tmp_path: Path) -> None:
    assert check_adapter(write_adapter(tmp_path / "good"), settings) == 8
    cut = write_adapter(tmp_path / "cut") / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    with pytest.raises(AdapterRejected, match="can't be read"):
        check_adapter(cut.parent, settings)
