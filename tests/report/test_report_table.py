import io
import json
from pathlib import Path

from rich.console import Console

from mobilequant.report.schema import Score, as_result
from mobilequant.report.table import score_table

SAMPLE = as_result(json.loads((Path(__file__).parent / "result.json").read_text(encoding="utf-8")))


def shown(table) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(table)
    return console.file.getvalue()


def test_scores_side_by_side():
    lines = shown(score_table(SAMPLE.scores)).splitlines()
    line = next(line for line in lines if "integer" in line and "25.08" in line)
    assert "+3.8 %" in line
    assert "89.7 %" in line
    assert sum("static_w8c_a8_kv8" in line for line in lines) == 1


def test_brackets_are_not_markup():
    assert "[red]x[/nonsense]" in shown(score_table([Score(label="[red]x[/nonsense]", kind="float", ppl=2.0)]))
