"""Run a program and write what it took: {"code", "peak_memory_bytes", "cpu_s"}.

    python -I -S measure.py REPORT.json COMMAND …

A program's largest resident set begins with that of whoever starts it, so that a big one would hide a small one: this
starts it from an interpreter of about 10 MB that has loaded next to nothing.
"""

import json
import os
import sys

report, *command = sys.argv[1:]
process = os.posix_spawnp(command[0], command, os.environ)
_, status, usage = os.wait4(process, 0)
unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
found = {
    "code": os.waitstatus_to_exitcode(status),
    "peak_memory_bytes": usage.ru_maxrss * unit,
    "cpu_s": usage.ru_utime + usage.ru_stime,
}
with open(report, "w") as file:  # noqa: PTH123  (pathlib would double what this weighs)
    json.dump(found, file)
