import json
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest

from mobilequant.errors import DataError, ResourceError
from mobilequant.report.html import bar_percent, lost_layers, render_report, worst_points, write_report
from mobilequant.report.schema import Result, as_result, score_groups

SAMPLE = json.loads((Path(__file__).parent / "result.json").read_text(encoding="utf-8"))
VOID = {"meta", "br"}
HOSTILE = '<script>alert("x")</script><img src=x onerror=y> $\\frac{1}$ & _hidden'


class Page(HTMLParser):
    """Checks that elements nest, and collects text, tags and attributes."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text, self.ids = [], set(), [], "", []
        self.feed(source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def source() -> str:
    return render_report(as_result(SAMPLE))


def test_the_page_is_well_formed_and_complete(source):
    page = Page(source)
    for part in ("Scores", "Zero-shot", "ranges fail", "outliers", "noise adds up", "Size by role", "16-bit", "repeat"):
        assert part in page.text
    for value in ("25.08", "+3.8 %", "0.0549", "136.1 MB", "4b14b4881570e7d0", "9310a45", "layers 0–29", "3 min 04 s"):
        assert value in page.text
    assert len(page.ids) == len(set(page.ids))


def test_the_page_needs_nothing_from_outside(source):
    page = Page(source)
    assert "http" not in source
    assert not page.tags & {"script", "link", "iframe", "img", "object"}
    assert all(not name.startswith("on") for name, _ in page.attributes)
    assert all(value.startswith("#") for name, value in page.attributes if name in ("href", "src"))
    assert set(re.findall(r"url\((.)", source)) == {"#"}


def test_the_failing_layers_are_named(source):
    series = {series.label: series for series in as_result(SAMPLE).ranges}
    assert lost_layers(series["as loaded"]) == [11, 28]
    assert lost_layers(series["with a one-token prefix"]) == []
    assert "become zero in layers 11, 28" in Page(source).text


def test_drawings_take_their_colours_from_the_page(source):
    drawn = set(re.findall(r"var\((--[\w-]+)\)", source))
    defined = set(re.findall(r"(--[\w-]+):", source))
    assert "#0a0b" not in source
    assert drawn <= defined


def hostile(value):
    """Every free text of the fixture replaced by markup; names that are also identifiers stay."""
    if isinstance(value, dict):
        fixed = {"kind", "layer", "percentiles", "scheme", "commit"}
        return {key: item if key in fixed else hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


def test_hostile_text_stays_text():
    page = Page(render_report(as_result(hostile(SAMPLE))))
    assert not page.tags & {"script", "img"}
    assert HOSTILE in page.text


@pytest.mark.parametrize("section", sorted(SAMPLE))
def test_each_section_may_be_missing_or_stand_alone(section):
    drawn = {"sqnr", "ranges", "token_outliers", "schemes"}  # slow, and no other section depends on them
    Page(render_report(as_result({key: value for key, value in SAMPLE.items() if key not in {section, *drawn}})))
    Page(render_report(as_result({section: SAMPLE[section]})))


def test_an_empty_result_still_renders():
    assert "Quantization report" in Page(render_report(Result())).text
    empty = {"sqnr": [{"label": "x", "rows": []}], "ranges": [{"label": "x", "rows": []}]}
    assert "noise adds up" in Page(render_report(as_result(empty))).text


def test_equal_results_give_equal_bytes_and_matplotlib_keeps_its_settings(tmp_path):
    before = dict(mpl.rcParams)
    small = {key: value for key, value in SAMPLE.items() if key in ("title", "ranges", "schemes")}
    for name in ("a.html", "b.html"):
        write_report(tmp_path / "new" / name, small)
    assert (tmp_path / "new" / "a.html").read_bytes() == (tmp_path / "new" / "b.html").read_bytes()
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("wrong", [{"surprise": 1}, {"scores": [{"label": "x"}]}, {"title": 3}])
def test_what_is_no_result_is_refused(tmp_path, wrong):
    with pytest.raises(DataError, match="report"):
        write_report(tmp_path / "x.html", wrong)


def test_nan_is_refused():
    with pytest.raises(DataError, match="finite"):
        as_result({"scores": [{"label": "x", "kind": "integer", "ppl": float("nan")}]})


def test_an_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError):
        write_report(tmp_path / "file" / "x.html", {})


def test_references_come_first_and_schemes_stay_together():
    def score(label, scheme):
        return {"label": label, "kind": "integer", "scheme": scheme, "ppl": 2.0}

    result = as_result({"scores": [score("a", "w8"), score("b", "w4"), score("c", "w8"), score("d", "")]})
    found = [(scheme, [each.label for each in group]) for scheme, group in score_groups(result.scores)]
    assert found == [("", ["d"]), ("w8", ["a", "c"]), ("w4", ["b"])]


def test_worst_points_are_sorted():
    values = [row.sqnr_db for row in worst_points(as_result(SAMPLE).sqnr[0])]
    assert values == sorted(values)
    assert len(values) == 8


def test_bars_are_bounded():
    assert [bar_percent(loss) for loss in (None, -3.0, 40.0, 900.0)] == [0.0, 0.0, 40.0, 100.0]
