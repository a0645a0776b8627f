"""python -m loadtests.replicas"""

import sys

from loadtests.replicas.command import main

if __name__ == "__main__":
    sys.exit(main())
