"""Vectors of stories' titles.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "vectors",
        sa.Column(
            "key",
            sa.LargeBinary(),
            nullable=False,
            comment="Of the text and of what made the vector: app/likeness/cache.py.",
        ),
        sa.Column("vector", sa.LargeBinary(), nullable=False, comment="float16 each."),
        sa.Column("written", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("ix_vectors_written", "vectors", ["written"], unique=False)
