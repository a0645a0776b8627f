"""Statements over many rows, for each of the two databases.

PostgreSQL gets the rows as one array a column, so that the statement's text stays short and the
same: with a placeholder a value, most of the time goes into parsing it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    CursorResult,
    Dialect,
    Executable,
    Table,
    any_,
    bindparam,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite

Row = dict[str, Any]
Insert = sqlite.Insert | postgresql.Insert
Item = TypeVar("Item")
CHUNK_ROWS = 1000
"""How many rows or ids one statement names. SQLite limits a statement's parameters."""


def chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    return (items[start : start + CHUNK_ROWS] for start in range(0, len(items), CHUNK_ROWS))


def insert(table: Table, dialect: Dialect, names: Sequence[str]) -> Insert:
    """An INSERT of these columns for `execute`, which can say what happens on a conflict."""
    if dialect.name == "sqlite":
        return sqlite.insert(table)
    arrays = [bindparam(name, type_=ARRAY(table.c[name].type)) for name in names]
    rows = func.unnest(*arrays).table_valued(*(table.c[name] for name in names)).render_derived()
    return postgresql.insert(table).from_select(list(names), select(rows))


def execute(
    connection: Connection, statement: Executable, rows: Sequence[Row]
) -> CursorResult[Any]:
    """Run an INSERT that `insert` made. rows: of these columns, at least one, each key once."""
    if connection.dialect.name == "sqlite":
        return connection.execute(statement, rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return connection.execute(statement, columns)


def among(column: Column[Any], values: Sequence[Any], dialect: Dialect) -> ColumnElement[bool]:
    """Whether the column's value is one of these."""
    if dialect.name == "sqlite":
        return column.in_(values)
    return column == any_(literal(list(values), ARRAY(column.type)))
