import io
import json
import sys

from mobilequant.cli import progress
from mobilequant.cli.option import LogFormat
from mobilequant.cli.progress import json_track, tracking


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Time that passes one step for every look at it."""

    def __init__(self, step_s):
        self.now, self.step = 0.0, step_s

    def monotonic(self):
        self.now += self.step
        return self.now


def test_a_log_file_gets_lines_now_and_then(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress, "time", Clock(step_s=10.0))
    with tracking(LogFormat.RICH) as track:
        assert list(track(range(5), "ranges", 5)) == [0, 1, 2, 3, 4]
    lines = ["ranges: 2 of 5, about 30 s left", "ranges: 4 of 5, about 10 s left", "ranges: 5 of 5, took 50 s"]
    assert sys.stderr.getvalue().splitlines() == lines


def test_short_work_leaves_no_line_in_a_log_file(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert list(progress.line_track([1, 2], "work", 2)) == [1, 2]
    assert sys.stderr.getvalue() == ""


def test_a_terminal_gets_bars(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with tracking(LogFormat.RICH) as track:
        assert list(track([1, 2], "calibration", 2)) == [1, 2]
    assert "calibration" in sys.stderr.getvalue()


def test_json_progress_starts_and_ends(capsys):
    assert list(json_track(range(5), "work", 5)) == [0, 1, 2, 3, 4]
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["done"] for event in events] == [0, 5]
    assert events[-1]["eta_s"] == 0
