"""Routes that list, load and unload adapters while the service runs."""

from fastapi import APIRouter

from app.http.dependencies import CHANGE_ERRORS, ChangeableDep, ServiceDep
from app.http.schemas.base import Removed
from app.http.schemas.models import Adapter, AdapterList, AdapterRequest

router = APIRouter(tags=["adapters"], responses=CHANGE_ERRORS)


@router.get("/adapters")
async def list_adapters(service: ServiceDep) -> AdapterList:
    """List the adapters served, and those that could not be loaded again after a restart."""
    serving = [
        Adapter(name=m.name, version=m.version, source=str(m.source), status="serving")
        for m in service.models
        if m.version
    ]
    failed = [
        Adapter(
            name=name, version=kept.version, source=str(kept.source), status="failed", error=error
        )
        for name, kept, error in service.adapters.list_failed()
    ]
    return AdapterList(adapters=serving + failed)


@router.post("/adapters", status_code=201)
async def load_adapter(body: AdapterRequest, service: ChangeableDep) -> Adapter:
    """Check a LoRA adapter, load it, verify that it changes a score, then serve it under its name.

    If any of these steps fails, nothing changes. If the name is already served, this loads its next
    version: new requests use that version, and requests in progress finish with the old one.
    """
    m = await service.adapters.load(body.name, body.path)
    return Adapter(name=m.name, version=m.version, source=str(m.source), status="serving")


@router.delete("/adapters/{name}")
async def unload_adapter(name: str, service: ChangeableDep) -> Removed:
    """Unload an adapter once its requests have finished. Refused while an alias names it."""
    await service.adapters.unload(name)
    return Removed(removed=name)
