"""`python -m app.store migrate`: prepare the database that FRONTPAGE_STORE names.

It creates the tables or brings them to this version. SQLite's file does that by itself.
"""

import argparse
import sys

from sqlalchemy.exc import SQLAlchemyError

from app.errors import StartupError
from app.settings import read_settings
from app.store.database import Database, head, reason


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m app.store", description=__doc__)
    parser.add_argument("command", choices=["migrate"], help="bring the tables to this version")
    parser.parse_args()
    try:
        database = Database(read_settings().store_url)
        database.migrate()
    except StartupError as error:
        print(f"frontpage: error: {error}", file=sys.stderr)
        return 1
    except (SQLAlchemyError, OSError) as error:
        print(f"frontpage: error: {reason(error)}", file=sys.stderr)
        return 1
    print(f"{database.name} has version {head()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
