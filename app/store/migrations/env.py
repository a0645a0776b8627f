"""Run by Alembic for each migration, on the connection that Database hands it."""

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
