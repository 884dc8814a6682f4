"""Two processes that do one run together, as users start them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def in_two(*arguments, **options):
    """What torchrun starts twice: a script, or -m and a module, and its arguments; options of ``subprocess.run``."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    paths = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    return subprocess.run([*launcher, *map(str, arguments)], timeout=120, env=environment, **options)
