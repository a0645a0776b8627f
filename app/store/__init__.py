"""What the service remembers: stories, impressions, clicks, and the models it should serve.

One schema in SQLite, for services on one machine, or in PostgreSQL, for any number of them.
docs/data-model.md describes the tables.
"""
