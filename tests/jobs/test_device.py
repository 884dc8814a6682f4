"""The memory of a GPU is asked for before work begins."""

import pytest
import torch

from mobilequant.errors import ResourceError, UsageError
from mobilequant.jobs.device import require_device, require_device_memory


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="cuda:77"):
        require_device("cuda:77")


def test_the_memory_of_a_gpu_is_compared_with_what_is_free_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (50_000_000_000, 80_000_000_000))
    require_device_memory(49_000_000_000, "cuda:1")
    with pytest.raises(ResourceError) as caught:
        require_device_memory(51_000_000_000, "cuda:1")
    assert "51 GB" in caught.value.message and "50 GB" in caught.value.message
    assert "recompute: true" in caught.value.remedy


def test_what_earlier_work_of_the_process_has_left_behind_counts_as_free(monkeypatch):
    """Seen on a GPU: behind the scores of its first package, a process had 20 GB free and 50 GB in its own cache."""
    free = [20_000_000_000]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: free.append(free.pop() + 50_000_000_000))
    require_device_memory(52_000_000_000, "cuda:1")


def test_a_cpu_has_the_memory_of_the_host(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: pytest.fail("no GPU was asked for"))
    require_device_memory(10**18, "cpu")
