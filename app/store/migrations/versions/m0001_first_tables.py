"""The first tables.

Revision: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "changed_hours",
        sa.Column("number", NUMBER, sa.Identity(), nullable=False),
        sa.Column(
            "hour", sa.Integer(), nullable=False, comment="Its answers are to be summed anew."
        ),
        sa.Column(
            "time", sa.Double(), nullable=False, comment="When it changed; 0: its sums are void."
        ),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "clicks",
        sa.Column("number", NUMBER, sa.Identity(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False, comment="The event's, or one made from it."),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("reader", sa.LargeBinary()),
        sa.Column("story", sa.Text(), nullable=False),
        sa.Column("awaits", sa.Text(), comment="Id of an impression that has not arrived yet."),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
    )
    op.create_index(
        "ix_clicks_awaits",
        "clicks",
        ["awaits"],
        postgresql_where=sa.text("awaits IS NOT NULL"),
        sqlite_where=sa.text("awaits IS NOT NULL"),
    )
    op.create_index(
        "ix_clicks_reader",
        "clicks",
        ["reader", "time"],
        postgresql_where=sa.text("reader IS NOT NULL"),
        sqlite_where=sa.text("reader IS NOT NULL"),
    )
    op.create_index("ix_clicks_time", "clicks", ["time"], unique=False)
    op.create_table(
        "desired",
        sa.Column(
            "key", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Always 1."
        ),
        sa.Column("revision", NUMBER, nullable=False, comment="Rises with each change."),
        sa.Column("content", sa.Text(), nullable=False, comment="JSON: see app/models/kept.py."),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "erasures",
        sa.Column("reader", sa.LargeBinary(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False, comment="All that is older goes."),
        sa.PrimaryKeyConstraint("reader"),
    )
    op.create_table(
        "figures",
        sa.Column("hour", sa.Integer(), autoincrement=False, nullable=False, comment="Since 1970."),
        sa.Column(
            "totals",
            sa.LargeBinary(),
            nullable=False,
            comment="Sums of its answers: app/feedback/hours.py.",
        ),
        sa.PrimaryKeyConstraint("hour"),
    )
    op.create_table(
        "impressions",
        sa.Column("number", NUMBER, sa.Identity(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False, comment="The answer's or the event's."),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("model", sa.Text(), comment="NULL for an event."),
        sa.Column("alias", sa.Text(), comment="The alias that the request named."),
        sa.Column(
            "ranked", sa.Boolean(), nullable=False, comment="False: its stories are independent."
        ),
        sa.Column("stories", sa.Integer(), nullable=False, comment="How many were shown."),
        sa.Column(
            "indices", sa.LargeBinary(), comment="uint16 each: places in the request, as shown."
        ),
        sa.Column("probabilities", sa.LargeBinary(), comment="float32 each, in the order shown."),
        sa.Column("reader", sa.LargeBinary(), comment="Keyed hash of the reader's id."),
        sa.Column("story_ids", sa.Text(), comment="JSON list, in the order shown."),
        sa.Column(
            "history", sa.Text(), comment="JSON list of the ids of the history sent, oldest first."
        ),
        sa.PrimaryKeyConstraint("number"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_impressions_reader",
        "impressions",
        ["reader", "time"],
        postgresql_where=sa.text("reader IS NOT NULL"),
        sqlite_where=sa.text("reader IS NOT NULL"),
    )
    op.create_index("ix_impressions_time", "impressions", ["time"], unique=False)
    op.create_table(
        "instances",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.Column(
            "state", sa.Text(), nullable=False, comment="JSON: what it serves, and what failed."
        ),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_index("ix_instances_seen", "instances", ["seen"], unique=False)
    op.create_table(
        "stories",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("category", sa.Text()),
        sa.Column("published", sa.Double()),
        sa.Column("updated", sa.Double(), nullable=False, comment="When it was last sent."),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_stories_updated", "stories", ["updated"], unique=False)
    op.create_table(
        "outcomes",
        sa.Column("impression", NUMBER, autoincrement=False, nullable=False),
        sa.Column(
            "position",
            sa.SmallInteger(),
            autoincrement=False,
            nullable=False,
            comment="In the order shown, counted from 0.",
        ),
        sa.Column("clicked", sa.Boolean(), nullable=False),
        sa.Column("learned", sa.Double(), nullable=False, comment="When the store learned it."),
        sa.ForeignKeyConstraint(["impression"], ["impressions.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("impression", "position"),
    )
