"""Adapters and aliases declared for all replicas, against what one of them serves."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.engine.fake import FakeEngine
from app.errors import StartupError
from app.main import create_app
from app.models.declared import Declaration, declare
from app.service import Service
from app.settings import Settings
from tests.support.adapter_folders import write_adapter
from tests.support.models import SMOLLM2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"adapters": ["news"]}, "user_config: adapters: "),
        ({"aliases": {"default": {"weights": {"news": -1}}}}, "aliases.default.weights.news: "),
        ({"adapter": {}}, "user_config: adapter: "),
    ],
)
def test_a_wrong_declaration_names_its_field(given: dict[str, Any], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        Declaration.read(given)


def declared(adapters: dict[str, str], **aliases: dict[str, float]) -> Declaration:
    weights = {alias: {"weights": shares} for alias, shares in aliases.items()}
    return Declaration.read({"adapters": adapters, "aliases": weights})


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    root = tmp_path / "adapters"
    for name in ("one", "two"):
        write_adapter(root / name)
    app = create_app(
        Settings(model=SMOLLM2, state=tmp_path / "state", adapter_root=root, max_adapters=2),
        FakeEngine(),
    )
    async with app.router.lifespan_context(app):
        yield app.state.service


def served(service: Service) -> dict[str, str]:
    return {model.name: Path(model.source).name for model in service.models if model.version}


async def apply(given: Declaration, service: Service) -> list[str]:
    return await declare(given, service.desired, service.local)


async def test_what_is_declared_is_served_and_what_is_not_is_gone(service: Service) -> None:
    assert await apply(declared({"news": "one"}, default={"news": 1}), service) == []
    assert served(service) == {"news": "one"}
    assert service.models.choose(None, "r").model.name == "news"
    both = declared({"news": "two", "old": "one"}, test={"news": 1, "old": 1})
    assert await apply(both, service) == []
    assert served(service) == {"news": "two", "old": "one"}
    assert service.models.get("news").version == 2
    assert set(service.models.aliases) == {"test"}
    again = service.models.get("news")
    assert await apply(both, service) == []
    assert service.models.get("news") is again, "loaded again though nothing changed"
    assert await apply(declared({}), service) == []
    assert served(service) == {}


async def test_what_fails_leaves_the_old_serving(service: Service) -> None:
    await apply(declared({"news": "one"}, default={"news": 1}), service)
    [adapter, alias, _] = await apply(
        declared({"missing": "three"}, default={"missing": 1}), service
    )
    assert "adapter missing" in adapter
    assert "alias default" in alias
    assert served(service) == {"news": "one"}
    assert service.models.choose(None, "r").model.name == "news"


async def test_what_http_changed_stays_until_its_declaration_changes(service: Service) -> None:
    given = declared({"news": "one"}, default={"news": 1}, test={"news": 1})
    await apply(given, service)
    await service.aliases.set("default", {service.models.base.name: 1})
    await service.adapters.load("extra", "two")
    await service.aliases.set("mine", {"extra": 1})
    number = service.desired.number
    assert (
        await apply(declared({"news": "one"}, default={"news": 1}, test={"news": 1}), service) == []
    )
    assert service.desired.number == number, "as after a restart, it writes nothing"
    assert await apply(declared({"news": "one"}, default={"news": 1}), service) == []
    assert set(service.models.aliases) == {"default", "mine"}
    assert service.models.choose(None, "r").model is service.models.base
    assert await apply(declared({"news": "one"}, default={"news": 2}), service) == []
    assert service.models.choose(None, "r").model.name == "news"
    assert served(service) == {"news": "one", "extra": "two"}


async def test_what_http_took_over_is_not_removed_with_its_declaration(service: Service) -> None:
    await apply(declared({"news": "one"}, default={"news": 1}), service)
    await service.adapters.load("news", "two")
    await service.aliases.set("default", {"news": 1, service.models.base.name: 1})
    assert await apply(declared({}), service) == []
    assert served(service) == {"news": "two"}
    assert set(service.models.aliases) == {"default"}
    assert service.desired.content.declared.adapters == {}


async def test_an_adapter_that_an_alias_of_http_needs_stays_declared(service: Service) -> None:
    await apply(declared({"news": "one"}), service)
    await service.aliases.set("mine", {"news": 1})
    [problem] = await apply(declared({}), service)
    assert "in use by mine" in problem
    assert served(service) == {"news": "one"}
    await service.aliases.remove("mine")
    assert await apply(declared({}), service) == []
    assert served(service) == {}


async def test_all_replicas_bring_one_declaration_and_one_of_them_writes_it(
    service: Service,
) -> None:
    both = declared({"news": "one", "old": "two"}, default={"news": 1, "old": 1})
    await asyncio.gather(*(apply(both, service) for _ in range(5)))
    assert service.desired.number == 1
    assert {name: kept.version for name, kept in service.desired.content.adapters.items()} == {
        "news": 1,
        "old": 1,
    }
