"""The real service in a process of its own, on the real vLLM, one for each test module."""

from collections.abc import Iterator

import httpx
import pytest

from tests.servers import Service, start_service, stopped_at_end


@pytest.fixture(scope="module")
def default_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("default") / "log"
    with stopped_at_end(start_service(log)) as service:
        service.wait_until_ready()
        yield service


@pytest.fixture
def http(default_service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=default_service.url, timeout=120) as client:
        yield client


def titles(count: int) -> list[str]:
    """Different invented headlines that read like real ones."""
    who = ["City council", "Local team", "Tech giant", "Film star", "Storm", "Central bank"]
    does = ["delays", "wins", "unveils", "denies", "threatens", "cuts", "celebrates"]
    what = ["new stadium", "title game", "budget plan", "holiday sale", "coastal towns"]
    made = [f"{a} {b} {c}" for a in who for b in does for c in what]
    assert len(set(made)) >= count
    return made[:: len(made) // count][:count] if count <= len(made) // 2 else made[:count]
