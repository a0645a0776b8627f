"""Routes that list and change aliases while the service runs."""

from fastapi import APIRouter

from app.http.dependencies import CHANGE_ERRORS, ServiceDep
from app.http.schemas.base import Removed
from app.http.schemas.models import Alias, AliasList, AliasRequest

router = APIRouter(tags=["adapters"], responses=CHANGE_ERRORS)


@router.get("/aliases")
async def list_aliases(service: ServiceDep) -> AliasList:
    """List the aliases and the weights of their models."""
    aliases = service.models.aliases
    return AliasList(aliases=[Alias(alias=name, weights=w) for name, w in aliases.items()])


@router.put("/aliases/{alias}")
async def set_alias(alias: str, body: AliasRequest, service: ServiceDep) -> Alias:
    """Create or change an alias. Takes effect here with the next request, and within two seconds at
    all instances that share the store.

    An alias with several models is an experiment: a `reader_id` always gets the same model. The
    alias `default` answers requests that name no model.
    """
    service.check_loaded()
    await service.following.catch_up(body.weights)
    return Alias(alias=alias, weights=await service.aliases.set(alias, body.weights))


@router.delete("/aliases/{alias}")
async def remove_alias(alias: str, service: ServiceDep) -> Removed:
    """Remove an alias. Requests that still name it get a 404."""
    service.check_loaded()
    await service.aliases.remove(alias)
    return Removed(removed=alias)
