"""Adapters from URLs that fsspec opens, here its memory:// and file://."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import fsspec
import pytest

from app.errors import AdapterRejected, InvalidValue
from app.models.adapter_source import AdapterRoot
from tests.support.adapter_calls import BASE, error, load, names, predict
from tests.support.adapter_folders import write_adapter
from tests.support.instances import Instances
from tests.support.waiting import until

ROOT = "memory://bucket/adapters"


@pytest.fixture
async def instances(tmp_path: Path, store_url: str) -> AsyncIterator[Instances]:
    async with AsyncExitStack() as stack:
        yield Instances(tmp_path, store_url, stack)


@pytest.fixture
def bucket(instances: Instances) -> fsspec.AbstractFileSystem:
    """v1 to v3 below the root, and a folder beside it."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    for folder in instances.root.iterdir():
        system.put(str(folder), f"/bucket/adapters/{folder.name}", recursive=True)
    system.put(str(instances.root / "v1"), "/bucket/outside", recursive=True)
    return system


async def test_all_instances_load_from_a_url(
    instances: Instances, bucket: fsspec.AbstractFileSystem
) -> None:
    a = await instances.start("a", adapter_root=ROOT)
    b = await instances.start("b", adapter_root=ROOT)
    answer = await load(a.client, "news", "v1")
    assert (answer.status_code, answer.json()["source"]) == (201, f"{ROOT}/v1")
    assert (await load(b.client, "other", f"{ROOT}/v2")).status_code == 201
    await until(lambda: a.versions == b.versions == {"news": 1, "other": 1})
    answers = [(await predict(one.client, model="news"))["probability"] for one in (a, b)]
    assert answers[0] == answers[1]
    bucket.pipe("/bucket/adapters/v1/adapter_config.json", b"{}")
    later = await instances.start("later", adapter_root=ROOT)
    assert "have changed since version 1" in (await later.listed("news"))["error"]
    assert later.versions == {"other": 1}


@pytest.mark.parametrize(
    "path",
    [
        *("../outside", "v1/../../outside", "/bucket/outside", "memory://bucket/outside", "", "."),
        *("nothing", "v1/", "v1//x", "file:///etc", "v1::file:///etc", "v1\0"),
    ],
)
async def test_paths_stay_below_the_url(
    instances: Instances, bucket: fsspec.AbstractFileSystem, path: str
) -> None:
    a = await instances.start("a", adapter_root=ROOT)
    if path == "v1/":
        assert (await load(a.client, "news", path)).status_code == 201
        return
    assert error(await load(a.client, "news", path)) == (422, "invalid_value", "path")
    assert await names(a.client) == [BASE]


def test_a_url_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(AdapterRejected, match=r"can't read v1: .*nowhere"):
        AdapterRoot("nowhere://bucket").find("v1")


def test_a_file_url_is_as_strict_as_a_folder(tmp_path: Path) -> None:
    """Also about links, which fsspec would follow."""
    root = AdapterRoot(f"file://{tmp_path}/root")
    write_adapter(tmp_path / "root" / "v1")
    write_adapter(tmp_path / "outside")
    (tmp_path / "root" / "link").symlink_to(tmp_path / "outside")
    assert root.find("v1") == root.find(f"{tmp_path}/root/v1") == "v1"
    for path in ("link", "../outside"):
        with pytest.raises(InvalidValue):
            root.find(path)


def test_a_source_is_found_under_another_mount(tmp_path: Path) -> None:
    for mount in ("one", "two"):
        write_adapter(tmp_path / mount / "v1")
    source = AdapterRoot(str(tmp_path / "one")).find(str(tmp_path / "one" / "v1"))
    AdapterRoot(str(tmp_path / "two")).copy(source, tmp_path / "copy")
    assert (tmp_path / "copy" / "adapter_config.json").is_file()
