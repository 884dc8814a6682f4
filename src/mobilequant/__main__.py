"""``python -m mobilequant``, which is also how ``torchrun -m mobilequant`` starts the program."""

import sys

from mobilequant.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
