"""python -m loadtests.limit"""

import sys

from loadtests.limit.command import main

if __name__ == "__main__":
    sys.exit(main())
