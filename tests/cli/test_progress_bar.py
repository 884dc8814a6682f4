import io
import json
import sys

from mobilequant.cli.option import LogFormat
from mobilequant.cli.progress import json_track, tracking
from mobilequant.pipeline.progress import silent


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_nothing_is_drawn_where_nobody_looks(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with tracking(LogFormat.RICH) as track:
        assert track is silent
        assert list(track([1, 2], "work", 2)) == [1, 2]
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
