"""python -m loadtests.compare"""

import sys

from loadtests.compare.command import main

if __name__ == "__main__":
    sys.exit(main())
