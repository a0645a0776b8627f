"""The tables of the store. app/store/migrations/ creates them; a test compares the two.

Times are seconds since 1970, as floats. On PostgreSQL they are the database's, so that instances
whose clocks differ agree (see Database.now). Readers appear as keyed hashes only.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)

NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite gives a row its number only where the type is INTEGER."""

metadata = MetaData()

stories = Table(
    "stories",
    metadata,
    Column("id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("category", Text),
    Column("published", Double),
    Column("updated", Double, nullable=False, index=True, comment="When it was last sent."),
)

impressions = Table(
    "impressions",
    metadata,
    Column("number", NUMBER, Identity(), primary_key=True),
    Column("id", Text, nullable=False, unique=True, comment="The answer's or the event's."),
    Column("time", Double, nullable=False, index=True),
    Column("model", Text, comment="NULL for an event."),
    Column("alias", Text, comment="The alias that the request named."),
    Column("ranked", Boolean, nullable=False, comment="False: its stories are independent."),
    Column("stories", Integer, nullable=False, comment="How many were shown."),
    Column("indices", LargeBinary, comment="uint16 each: places in the request, as shown."),
    Column("probabilities", LargeBinary, comment="float32 each, in the order shown."),
    Column("reader", LargeBinary, comment="Keyed hash of the reader's id."),
    Column("story_ids", Text, comment="JSON list, in the order shown."),
    Column("history", Text, comment="JSON list of the ids of the history sent, oldest first."),
    sqlite_autoincrement=True,
)
Index(
    "ix_impressions_reader",
    impressions.c.reader,
    impressions.c.time,
    postgresql_where=impressions.c.reader.is_not(None),
    sqlite_where=impressions.c.reader.is_not(None),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column(
        "impression",
        NUMBER,
        ForeignKey("impressions.number", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    ),
    Column(
        "position",
        SmallInteger,
        primary_key=True,
        autoincrement=False,
        comment="In the order shown, counted from 0.",
    ),
    Column("clicked", Boolean, nullable=False),
    Column("learned", Double, nullable=False, comment="When the store learned it."),
)

clicks = Table(
    "clicks",
    metadata,
    Column("number", NUMBER, Identity(), primary_key=True),
    Column("id", Text, nullable=False, unique=True, comment="The event's, or one made from it."),
    Column("time", Double, nullable=False, index=True),
    Column("reader", LargeBinary),
    Column("story", Text, nullable=False),
    Column("awaits", Text, comment="Id of an impression that has not arrived yet."),
    Column("sender", Text, comment="Name of the API key that reported it, while it awaits one."),
)
Index(
    "ix_clicks_reader",
    clicks.c.reader,
    clicks.c.time,
    postgresql_where=clicks.c.reader.is_not(None),
    sqlite_where=clicks.c.reader.is_not(None),
)
Index(
    "ix_clicks_awaits",
    clicks.c.awaits,
    postgresql_where=clicks.c.awaits.is_not(None),
    sqlite_where=clicks.c.awaits.is_not(None),
)

erasures = Table(
    "erasures",
    metadata,
    Column("reader", LargeBinary, primary_key=True),
    Column("time", Double, nullable=False, comment="All that is older goes."),
)

desired = Table(
    "desired",
    metadata,
    Column("key", SmallInteger, primary_key=True, autoincrement=False, comment="Always 1."),
    Column("revision", NUMBER, nullable=False, comment="Rises with each change."),
    Column("content", Text, nullable=False, comment="JSON: see app/models/kept.py."),
)

instances = Table(
    "instances",
    metadata,
    Column("name", Text, primary_key=True),
    Column("started", Double, nullable=False),
    Column("seen", Double, nullable=False, index=True),
    Column("state", Text, nullable=False, comment="JSON: what it serves, and what failed."),
)

figures = Table(
    "figures",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False, comment="Since 1970."),
    Column(
        "totals", LargeBinary, nullable=False, comment="Sums of its answers: app/feedback/hours.py."
    ),
)

changed_hours = Table(
    "changed_hours",
    metadata,
    Column("number", NUMBER, Identity(), primary_key=True),
    Column("hour", Integer, nullable=False, comment="Its answers are to be summed anew."),
    Column("time", Double, nullable=False, comment="When it changed; 0: its sums are void."),
    sqlite_autoincrement=True,  # or SQLite would give the numbers of deleted rows again
)

changes = Table(
    "changes",
    metadata,
    Column("number", NUMBER, Identity(), primary_key=True),
    Column("time", Double, nullable=False, index=True),
    Column("content", Text, nullable=False, comment="JSON: see app/store/changes.py."),
    sqlite_autoincrement=True,  # numbers of deleted rows are not used again
)

live_figures = Table(
    "live_figures",
    metadata,
    Column("key", SmallInteger, primary_key=True, autoincrement=False, comment="Always 1."),
    Column("number", NUMBER, nullable=False, comment="The newest change that is counted."),
    Column("gaps", Text, nullable=False, comment="JSON: earlier changes that may still come."),
    Column("newest", Double, comment="When the newest event happened."),
    Column("written", Double, nullable=False),
    Column("counts", LargeBinary, nullable=False, comment="All counts, as a NumPy archive."),
)

vectors = Table(
    "vectors",
    metadata,
    Column(
        "key",
        LargeBinary,
        primary_key=True,
        comment="Of the text and of what made the vector: app/likeness/cache.py.",
    ),
    Column("vector", LargeBinary, nullable=False, comment="float16 each."),
    Column("written", Double, nullable=False, index=True),
)
