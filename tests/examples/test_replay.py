"""The replay of a click log, against a service with a small real ranker."""

import asyncio
import json
import re
import sys
from pathlib import Path

import polars as pl
import pytest

from app.engine.fake import FakeEngine
from app.main import create_app
from app.settings import Settings
from tests.support.models import ROOT
from tests.support.rankers import make_tower, write_model
from tests.support.servers import serving
from tests.support.tiny_encoder import make_tiny_encoder
from training.__main__ import main
from training.data.prepared import PreparedData

MIND = ROOT / "examples" / "mind"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("replay") / "data"
    folders = ("--train", str(MIND / "train"), "--val", str(MIND / "val"))
    assert main(["prepare", *folders, "--out", str(out)]) == 0
    return out


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    folder = tmp_path / "tiny-encoder"
    folder.mkdir()
    encoder = make_tiny_encoder(folder)
    model = write_model(tmp_path / "ranked", encoder, make_tower(encoder))
    return Settings(model=model, encoder=encoder, state=tmp_path / "state")


async def run(*options: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "examples.replay", *options),
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


async def test_a_log_is_replayed(settings: Settings, data: Path, tmp_path: Path) -> None:
    app = create_app(settings, FakeEngine())
    file = tmp_path / "measured.json"
    async with serving(app) as url:
        asked = ("--url", url, "--data", str(data), "--impressions", "12", "--json", str(file))
        code, out, error = await run(*asked)
        assert code == 0, error
        again, _, told = await run(*asked)
    measured = json.loads(file.read_text())
    assert len(measured) == 12
    for one in measured:
        assert len(one["clicked"]) == len(one["scores"]["probability"])
        assert one["scores"]["probability"] != one["scores"]["text_probability"]
    [total] = re.findall(r"^\| all \| 12 \| ([\d. |]+) \|$", out, re.M)
    assert len(total.split("|")) == 4
    assert re.search(r"^ranker above text alone, auc: [+-]\d\.\d{4} \[", out, re.M)
    assert (again, "seen this log before" in told) == (1, True)  # it would count twice


async def test_a_log_is_told_for_a_refresh(settings: Settings, data: Path, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"remember": True})
    async with serving(create_app(settings, FakeEngine())) as url:
        code, _, error = await run("--url", url, "--data", str(data), "--only-tell")
    assert code == 0, error
    store, out = f"sqlite:///{settings.state / 'frontpage.sqlite'}", tmp_path / "collected"
    assert main(["collect", "--store", store, "--window", "0", "--out", str(out)]) == 0
    told = pl.read_parquet(out / "impressions.parquet")
    log = PreparedData(data)
    sent = log.log().select("user", "history").collect()
    assert len(told) == len(sent)
    clicks = log.log().select(pl.col("clicked").explode().sum()).collect().item()
    assert told["clicked"].explode().sum() == clicks > 0
    first = dict(reversed(sent.rows()))
    names = [[log.story_ids[index] for index in history] for history in first.values()]
    assert any(names)
    known = told["history"].to_list()
    assert all(history in known for history in names)
