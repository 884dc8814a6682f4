import pytest

from mobilequant.errors import UsageError
from mobilequant.pipeline.strict_yaml import parse


def test_every_value_knows_its_line():
    document = parse("a: 1\nb:\n  - x\n  - c: 2\n", "f.yaml")
    assert document.value == {"a": 1, "b": ["x", {"c": 2}]}
    assert document.lines[("a",)] == 1
    assert document.lines[("b", 1, "c")] == 4


def test_nearest_location_climbs_to_what_the_file_has():
    document = parse("a:\n  b: 1\n", "f.yaml")
    assert document.nearest(("a", "b", "label")) == ("a", "b")
    assert document.nearest(("z",)) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "f.yaml, line 2: the key 'a' appears twice"),
        ("x:\n  a: 1\n  a: 2\n", "line 3"),
        ("a: [1\n", "f.yaml, line"),
        ("? [a]\n: 1\n", "plain word"),
        ("a: &b [1]\nc: *b\n", "f.yaml, line 2: aliases are not allowed"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[" * 900 + "]" * 900, "recursion"),
    ],
)
def test_bad_yaml_is_a_usage_error(text, said):
    with pytest.raises(UsageError) as caught:
        parse(text, "f.yaml")
    assert said in caught.value.message
