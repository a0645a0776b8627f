"""`python -m app.security NAME [--scope SCOPE …]` creates an API key and its entry for
FRONTPAGE_API_KEYS."""

import argparse
import json
from typing import get_args

from pydantic import ValidationError

from app.security.keys import new_key
from app.settings import KeyScope


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m app.security", description=__doc__)
    parser.add_argument("name", help="a name for the key's owner, shown in the access log")
    parser.add_argument(
        "--scope",
        choices=get_args(KeyScope),
        nargs="+",
        default=["predict"],
        help="what the key may be used for (default: %(default)s)",
    )
    parser.add_argument("--requests-per-minute", type=int, metavar="N", help="default: no limit")
    options = parser.parse_args()
    try:
        secret, key = new_key(
            options.name, *options.scope, requests_per_minute=options.requests_per_minute
        )
    except ValidationError as error:
        first = error.errors()[0]
        parser.error(f"{first['loc'][0]}: {first['msg']}")
    entry = key.model_dump(mode="json", exclude_none=True)
    print(f"key, shown only this once: {secret}")
    print(f"entry for FRONTPAGE_API_KEYS=[...]: {json.dumps(entry)}")


if __name__ == "__main__":
    main()
