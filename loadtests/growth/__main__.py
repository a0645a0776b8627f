"""python -m loadtests.growth"""

import sys

from loadtests.growth.command import main

if __name__ == "__main__":
    sys.exit(main())
