import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mobilequant.errors import UsageError
from mobilequant.pipeline.preset import preset_names, preset_text
from mobilequant.pipeline.recipe import (
    Recipe,
    canonical_json,
    choose_recipe,
    load_preset,
    load_recipe,
    parse_recipe,
    recipe_hash,
    recipe_yaml,
)

MINIMAL = "version: 1\nscheme: static_w8c_a8_kv8\nmethods: [rtn]\n"

options = st.dictionaries(
    st.text("abcxyz_", min_size=1, max_size=6),
    st.one_of(st.booleans(), st.integers(-9, 9), st.floats(0.1, 0.9), st.text("abc", max_size=3), st.none()),
    max_size=3,
)


@st.composite
def recipes(draw):
    names = st.text("abcdefgh", min_size=1, max_size=6)
    return Recipe.model_validate(
        {
            "version": 1,
            "scheme": draw(st.sampled_from(["static_w8c_a8_kv8", "static_w4g64_a8_kv8"])),
            "prefix": {"tokens": draw(st.one_of(st.just("auto"), st.lists(st.integers(0, 9), max_size=3)))},
            "methods": draw(st.lists(st.builds(lambda n, o: {"name": n, "options": o}, names, options), min_size=1)),
            "data": {"window": draw(st.integers(2, 999)), "seed": draw(st.one_of(st.none(), st.integers(0, 9)))},
            "sixteen_bit": {"points": draw(st.lists(names, max_size=2))},
            "seed": draw(st.integers(0, 99)),
        }
    )


@given(recipes())
def test_yaml_round_trip_keeps_recipe_and_hash(recipe):
    again = parse_recipe(recipe_yaml(recipe), "round trip").recipe()
    assert again == recipe
    assert recipe_hash(again) == recipe_hash(recipe)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_its_scheme_is_in_its_name(name):
    preset = load_preset(name)
    scheme = preset.base_scheme()
    assert name.startswith(f"w{scheme.weight_bits}" + (f"g{scheme.group_size}" if scheme.group_size else ""))
    assert preset.summary


def test_fixed_preset_names_exist():
    assert {"w8a8-fast", "w4a8-fast", "w4g64a8-fast"} <= set(preset_names())


def test_measured_loss_and_summary_do_not_enter_the_hash():
    entry = "{model: m, text: t, float_ppl: 1.0, fake_quant_ppl: 2.0, integer_ppl: 3.0, date: 2026-01-31, commit: abc}"
    changed = parse_recipe(f"{MINIMAL}summary: other\nmeasured: [{entry}]\n", "x")
    assert changed.measured[0].integer_ppl == 3.0
    assert recipe_hash(changed.recipe()) == recipe_hash(parse_recipe(MINIMAL, "y").recipe())
    assert recipe_hash(changed) == recipe_hash(changed.recipe())


def test_defaults_are_written_out_before_hashing():
    long = MINIMAL + "seed: 0\nprefix: {tokens: auto, max_tokens: 1}\ndata: {text: sotu}\n"
    assert recipe_hash(parse_recipe(MINIMAL, "a").recipe()) == recipe_hash(parse_recipe(long, "b").recipe())
    assert json.loads(canonical_json(parse_recipe(MINIMAL, "a")))["methods"] == [{"rtn": {}}]


def test_order_of_methods_changes_the_hash():
    one, other = (parse_recipe(MINIMAL.replace("rtn", order), "x").recipe() for order in ("a, b", "b, a"))
    assert recipe_hash(one) != recipe_hash(other)


def test_recipes_are_immutable():
    with pytest.raises(ValueError, match="frozen"):
        load_recipe("w8a8-fast").seed = 3


@pytest.mark.parametrize(
    ("extra", "message", "remedy"),
    [
        ("data:\n  widnow: 3\n", "f.yaml, line 5: unknown key 'data.widnow'", "Did you mean 'window'?"),
        ("mesured: []\n", "f.yaml, line 4: unknown key 'mesured'", "Did you mean 'measured'?"),
        ("measured:\n- {model: m, text: t, float_pl: 1}\n", "measured.0", ""),
        ("prefix: {tokens: some}\n", "line 4: prefix.tokens: Input should be 'auto', or", ""),
        (
            "sixteen_bit: {fraction_of_down: 0.2, points: []}\n",
            "line 4: sixteen_bit: fraction_of_down: 0.2 is now a method: "
            "put 'sixteen_bit: {fraction_of_down: 0.2}' behind ranges",
            "",
        ),
        ("sixteen_bit: {point: []}\n", "unknown key 'sixteen_bit.point'", "Did you mean 'points'?"),
        ("seed: .nan\n", "line 4: seed", ""),
        ("seed: -1\n", "greater than or equal to 0", ""),
        ("data: {seed: 9223372036854775808}\n", "line 4: data.seed", ""),
        ("prefix: {tokens: [1, 2, 3, 4, 5]}\n", "at most 4", ""),
        ("data: 3\n", "line 4: data", ""),
    ],
)
def test_invalid_recipe_names_line_and_key(extra, message, remedy):
    with pytest.raises(UsageError) as caught:
        parse_recipe(MINIMAL + extra, "f.yaml")
    assert message in caught.value.message
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a mapping of keys"),
        ("- 1\n", "a mapping of keys"),
        ("version: 2\nscheme: static_w8c_a8_kv8\nmethods: [rtn]\n", "line 1: version"),
        ("scheme: static_w8c_a8_kv8\nmethods: [rtn]\n", "'version' is missing"),
        ("version: 1\nscheme: w8\nmethods: [rtn]\n", "line 2: scheme: unknown scheme 'w8'"),
        ("version: 1\nscheme: static_w4g0_a8_kv8\nmethods: [rtn]\n", "unknown scheme 'static_w4g0_a8_kv8'"),
        ("version: 1\nscheme: static_w8c_a8_kv8\nmethods: []\n", "line 3: methods"),
        ("version: 1\nscheme: static_w8c_a8_kv8\nmethods:\n- {a: {}, b: {}}\n", "a method is a name"),
        ("version: 1\nscheme: static_w8c_a8_kv8\nmethods:\n- {a: {x: {y: 1}}}\n", "line 4: methods.0"),
        ("version: 1\nscheme: static_w8c_a8_kv8\nmethods: [{a: {x: .inf}}]\n", "line 3: methods.0"),
    ],
)
def test_invalid_recipe_file(text, message):
    with pytest.raises(UsageError) as caught:
        parse_recipe(text, "f.yaml")
    assert message in caught.value.message


def test_unknown_preset_names_the_nearest():
    with pytest.raises(UsageError) as caught:
        load_recipe("w8a8-fats")
    assert "'w8a8-fast'" in caught.value.remedy


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(UsageError, match="out of range"):
        choose_recipe("w8a8-fast", None, seed)


def test_recipe_from_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(preset_text("w4a8-fast"))
    assert load_recipe(str(path)) == load_recipe("w4a8-fast")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_unreadable_recipe_file(tmp_path, content):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match="cannot read the recipe"):
        load_recipe(path)
