"""Routes that list, load and unload adapters while the service runs."""

from fastapi import APIRouter

from app.http.dependencies import CHANGE_ERRORS, ServiceDep
from app.http.schemas.base import Removed
from app.http.schemas.models import (
    Adapter,
    AdapterAtInstance,
    AdapterList,
    AdapterRequest,
    ListedAdapter,
)

router = APIRouter(tags=["adapters"], responses=CHANGE_ERRORS)


@router.get("/adapters")
async def list_adapters(service: ServiceDep) -> AdapterList:
    """List the adapters, as this instance serves them, and for each of them all instances that
    share the store and were seen in the last 30 seconds."""
    instances = await service.following.instances()
    return AdapterList(
        adapters=[
            ListedAdapter(
                name=one.name,
                version=one.version,
                source=one.source,
                status=one.status,
                error=one.error,
                instances=[
                    AdapterAtInstance(
                        instance=instance.name,
                        version=found.version,
                        status=found.status,
                        error=found.error,
                    )
                    for instance in instances
                    for found in instance.report.adapters
                    if found.name == one.name
                ],
            )
            for one in service.local.statuses()
        ]
    )


@router.post("/adapters", status_code=201)
async def load_adapter(body: AdapterRequest, service: ServiceDep) -> Adapter:
    """Check a LoRA adapter, load it, verify that it changes a score, then serve it under its name.
    All other instances that share the store then load it too.

    If any of these steps fails, nothing changes. If the name is already served, this loads its next
    version: new requests use that version, and requests in progress finish with the old one.
    """
    m = await service.adapters.load(body.name, body.path)
    return Adapter(name=m.name, version=m.version, source=m.source, status="serving")


@router.delete("/adapters/{name}")
async def unload_adapter(name: str, service: ServiceDep) -> Removed:
    """Unload an adapter, at all instances, once its requests have finished. Refused while an alias
    names it."""
    await service.adapters.unload(name)
    return Removed(removed=name)
