"""Who reported a click that waits for its impression.

Revision: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column(
        "clicks",
        sa.Column(
            "sender",
            sa.Text(),
            comment="Name of the API key that reported it, while it awaits one.",
        ),
    )
