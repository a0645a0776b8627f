"""The newest desired state that this instance knows, and changes to it."""

from collections.abc import Callable

from pydantic import ValidationError

from app.errors import StartupError, StoreUnavailable
from app.models.adoption import adopt
from app.models.kept import KeptModels
from app.settings import Settings
from app.store.desired import DesiredState, Revision

Edit = Callable[[KeptModels], KeptModels]


class Desired:
    """content: of revision `number`. `watch` tells of each newer one."""

    def __init__(self, state: DesiredState, settings: Settings) -> None:
        self.state = state
        self._settings = settings
        self.number = 0
        self.content = KeptModels()
        self._watchers: list[Callable[[], None]] = []

    async def start(self) -> None:
        """Take over the registry of an earlier version, and read what is desired. Raises
        StartupError."""
        try:
            await adopt(self._settings, self.change)
            await self.refresh()
        except StoreUnavailable as error:
            raise StartupError(f"the adapters and aliases to serve: {error}") from None

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called with each newer content, on the event loop."""
        self._watchers.append(changed)

    async def poll(self) -> None:
        """Read what is desired if it has changed. Raises StoreUnavailable."""
        known = self.number
        if await self.state.number() != known and self.number == known:
            await self.refresh()

    async def refresh(self) -> None:
        """Read what is desired. Raises StoreUnavailable."""
        known = self.number
        found = await self.state.read()
        if self.number == known:  # else a change of ours is newer than what was read
            self._take(found)

    async def change(self, edit: Edit) -> None:
        """Make one change. edit: see DesiredState.change; it may be called in another thread.

        Raises StoreUnavailable and what `edit` raises; nothing has changed then.
        """

        def edit_text(old: str | None) -> str:
            before = parse(old)
            after = edit(before)
            return old if old is not None and after == before else after.model_dump_json()

        found = await self.state.change(edit_text)
        if found.number > self.number:
            self._take(found)

    def _take(self, found: Revision) -> None:
        """Nothing is awaited here, so requests see all of a revision or nothing."""
        if found.number == self.number:
            return
        self.content = parse(found.content)
        self.number = found.number
        for changed in self._watchers:
            changed()


def parse(content: str | None) -> KeptModels:
    """Raises StoreUnavailable for what another version of the service wrote."""
    if content is None:
        return KeptModels()
    try:
        return KeptModels.model_validate_json(content)
    except ValidationError:
        raise StoreUnavailable("another version of the service wrote the desired state") from None
