"""What instances tell each other of events, and a snapshot of the live figures.

Revision: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "changes",
        sa.Column("number", NUMBER, sa.Identity(), nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False, comment="JSON: see app/store/changes.py."),
        sa.PrimaryKeyConstraint("number"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_changes_time", "changes", ["time"], unique=False)
    op.create_table(
        "live_figures",
        sa.Column(
            "key", sa.SmallInteger(), autoincrement=False, nullable=False, comment="Always 1."
        ),
        sa.Column("number", NUMBER, nullable=False, comment="The newest change that is counted."),
        sa.Column(
            "gaps", sa.Text(), nullable=False, comment="JSON: earlier changes that may still come."
        ),
        sa.Column("newest", sa.Double(), comment="When the newest event happened."),
        sa.Column("written", sa.Double(), nullable=False),
        sa.Column(
            "counts", sa.LargeBinary(), nullable=False, comment="All counts, as a NumPy archive."
        ),
        sa.PrimaryKeyConstraint("key"),
    )
