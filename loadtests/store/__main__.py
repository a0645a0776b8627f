"""python -m loadtests.store"""

import sys

from loadtests.store.command import main

if __name__ == "__main__":
    sys.exit(main())
