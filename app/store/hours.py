"""Which past hours have changed, so that sums kept over their answers no longer hold.

A transaction that writes or deletes answers or their outcomes in an hour that is over leaves a mark
for that hour. Sums are only kept of hours that were over for CLOSED_AFTER_S, so a transaction that
found its hour open has long ended by then.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, insert

from app.store.tables import changed_hours

HOUR_S = 3600
MARKED_AFTER_S = 300
"""An hour gets marks once it has been over for so long."""
CLOSED_AFTER_S = 900
"""Its answers may be summed once it has been over for so long."""


def hour_of(time: float) -> int:
    """The hour, since 1970, that holds a time in seconds since 1970."""
    return int(time // HOUR_S)


def mark_hours(
    connection: Connection, times: Iterable[float], now: float, void: bool = True
) -> None:
    """Mark the past hours of answers that this transaction writes or deletes, or whose outcomes it
    writes. times: the answers'. void: the hours' sums may not be used any more; otherwise, as for
    late feedback, they may for a while."""
    over = hour_of(now - MARKED_AFTER_S)
    hours = sorted({hour for hour in map(hour_of, times) if hour < over})
    if hours:
        connection.execute(
            insert(changed_hours), [{"hour": hour, "time": 0.0 if void else now} for hour in hours]
        )
