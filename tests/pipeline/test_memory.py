import subprocess
import sys

import pytest

from mobilequant.pipeline import memory
from mobilequant.pipeline.memory import return_freed_memory

# Large and small blocks in turns; the large ones are freed, and the small ones keep the heap from shrinking.
GAPS = """
import ctypes, psutil
from mobilequant.pipeline.memory import return_freed_memory
process = psutil.Process()
large = []; small = []
for _ in range(3000):
    large.append(bytearray(100_000)); small.append(bytearray(1000))
del large
before = process.memory_info().rss
return_freed_memory()
print(before - process.memory_info().rss)
"""


@pytest.mark.skipif(memory._malloc_trim() is None, reason="only glibc keeps gaps")
def test_gaps_between_what_stays_go_back():
    returned = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True).stdout
    assert int(returned) > 100_000_000


def test_other_systems_need_no_help(monkeypatch):
    monkeypatch.setattr(memory, "_malloc_trim", lambda: None)
    return_freed_memory()
