"""Who reported a click that waits for its impression.

Revision: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column(
        "clicks",
        sa.Column(
            "sender",
            sa.Text(),
            comment="Name of the API key that reported it, while it awaits one.",
        ),
    )
