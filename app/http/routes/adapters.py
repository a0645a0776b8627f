"""Adapters and aliases, changed while serving."""

from typing import Annotated

from fastapi import APIRouter, Depends

from app.errors import Conflict
from app.http.dependencies import ERRORS, ServiceDep
from app.http.schemas import (
    Adapter,
    AdapterList,
    AdapterRequest,
    Alias,
    AliasList,
    AliasRequest,
    ErrorResponse,
    Removed,
)
from app.models.adapters import Adapters

router = APIRouter(
    tags=["adapters"],
    responses={
        **ERRORS,
        404: {"model": ErrorResponse, "description": "No such adapter, alias or model"},
        409: {"model": ErrorResponse, "description": "Something else stands in its way"},
    },
)


def changeable(service: ServiceDep) -> Adapters:
    """Raises Conflict where adapters and aliases can't be changed over HTTP."""
    if service.changes_refused is not None:
        raise Conflict(service.changes_refused)
    return service.adapters


AdaptersDep = Annotated[Adapters, Depends(changeable)]


@router.get("/adapters")
async def list_adapters(service: ServiceDep) -> AdapterList:
    """Those that are served, and those kept from before that could not be loaded."""
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
async def load_adapter(body: AdapterRequest, adapters: AdaptersDep) -> Adapter:
    """Check a LoRA adapter, load it, prove that it changes a score, then serve it by its name.

    If any of that fails nothing has changed. A name that is served already gets its next version:
    new requests use that one, those at work end with the old one.
    """
    m = await adapters.load(body.name, body.path)
    return Adapter(name=m.name, version=m.version, source=str(m.source), status="serving")


@router.delete("/adapters/{name}")
async def unload_adapter(name: str, adapters: AdaptersDep) -> Removed:
    """After the requests that use it have ended; refused while an alias names it."""
    await adapters.unload(name)
    return Removed(removed=name)


@router.get("/aliases")
async def list_aliases(service: ServiceDep) -> AliasList:
    """Names that stand for models, with their weights."""
    aliases = service.models.aliases
    return AliasList(aliases=[Alias(alias=name, weights=w) for name, w in aliases.items()])


@router.put("/aliases/{alias}")
async def set_alias(alias: str, body: AliasRequest, adapters: AdaptersDep) -> Alias:
    """From the next request on. Several models make an experiment: a reader_id always gets the same
    of them. The alias `default` answers requests that name no model."""
    await adapters.set_alias(alias, body.weights)
    return Alias(alias=alias, weights=adapters.models.aliases[alias])


@router.delete("/aliases/{alias}")
async def remove_alias(alias: str, adapters: AdaptersDep) -> Removed:
    """Requests that still use it get a 404."""
    await adapters.remove_alias(alias)
    return Removed(removed=alias)
