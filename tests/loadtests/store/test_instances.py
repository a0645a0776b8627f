"""How soon instances follow, measured in short."""

from loadtests.store.instances import Options, measure
from tests.support.models import ADAPTER, SMOLLM2


async def test_moves_and_loads_are_followed_by_all_instances() -> None:
    found = await measure(Options(moves=3, loads=3, model=SMOLLM2, adapter=ADAPTER, store=None))
    for row in (found["alias_moves"], found["adapter_loads"]):
        assert row["count"] == 3
        assert 0 <= row["followed_p50_ms"] <= row["followed_p99_ms"]
        assert row["answered_p50_ms"] <= row["answered_p99_ms"]
