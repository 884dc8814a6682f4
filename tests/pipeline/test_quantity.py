from mobilequant.pipeline.quantity import duration, size


def test_sizes_for_people():
    assert [size(n) for n in (12, 999.9, 1234, 1.5e9, 3e12)] == ["12 B", "1 kB", "1.23 kB", "1.5 GB", "3 TB"]


def test_times_for_people():
    assert [duration(s) for s in (45, 200, 9000)] == ["45 s", "3 min", "2.5 h"]
