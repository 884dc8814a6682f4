import subprocess
import sys

import pytest

from mobilequant.pipeline import memory
from mobilequant.pipeline.memory import return_freed_memory

# Large and small blocks in turns; the large ones are freed, and the small ones keep the heap from shrinking.
GAPS = """
import psutil
from mobilequant.pipeline.memory import return_freed_memory
process = psutil.Process()
empty = process.memory_info().rss
large = []; small = []
for _ in range(3000):
    large.append(bytearray(100_000)); small.append(bytearray(1000))
full = process.memory_info().rss
del large
return_freed_memory()
print(full - empty, full - process.memory_info().rss)
"""


def test_gaps_between_what_stays_go_back():
    printed = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True).stdout
    taken, returned = map(int, printed.split())
    assert taken > 250_000_000
    assert returned > 250_000_000


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_other_systems_need_no_help(monkeypatch, error):
    def no_libc(name):
        raise error

    monkeypatch.setattr(memory.ctypes, "CDLL", no_libc)
    return_freed_memory()
