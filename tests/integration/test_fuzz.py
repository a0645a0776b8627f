"""A short part of `make fuzz`."""

import asyncio

import httpx

from tests.fuzz.judge import run
from tests.support.servers import Service


def test_no_faulty_request_gets_a_fault_of_ours(default_service: Service) -> None:
    """Those that are at fault are printed."""

    async def fuzz() -> int:
        async with httpx.AsyncClient(base_url=default_service.url, timeout=None) as client:
            statuses, faults = await run(client, 16, range(300))
        assert statuses[200] > 30, statuses
        assert statuses[400] > 100, statuses
        return faults

    assert asyncio.run(fuzz()) == 0
