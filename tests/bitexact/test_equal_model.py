"""Whole tiny models in the C++ engine: every tensor and every logit is the reference interpreter's."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from native_engine import KERNELS, Native, Reference, UsageError, packaged, require_equal, run
from tiny_quantized import FAMILIES, VARIANTS, lowered

W8C, W4C, W4G16 = "static_w8c_a8_kv8", "static_w4c_a8_kv8", "static_w4g16_a8_kv8"
TOKENS = np.random.default_rng(3).integers(0, 96, 23)
# Sizes of the parts in which a text is read.
SPLITS = [[23], [1] * 23, [1, 1, 9, 12], [5, 1, 7, 10]]
SHORT_SPLITS = [[23], [5, 15, 1, 1, 1]]  # members who meet after every operation of every token take their time

SIXTEEN_BIT = {"wide": ("act", "product", "probs")}
EIGHT_BIT = {"narrow": ("scores", "o", "down", "attn_post_norm", "mlp_post_norm")}
CASES = {
    **{f"{name}, {scheme}": (name, scheme, {}) for name in (*FAMILIES, *VARIANTS) for scheme in (W8C, W4G16)},
    **{f"{name}, {W4C}, no prefix": (name, W4C, {"prefix": ()}) for name in ("llama", "mistral", "gemma2", "gpt2")},
    "groups of 8": ("llama", "static_w4g8_a8_kv8", {}),
    "8-bit weights in groups": ("opt", "static_w8g16_a8_kv8", {}),
    "residual of one step": ("gemma3_text", W8C, {"ptf": False}),
    "residual of one step, learned positions": ("gpt2", W8C, {"ptf": False}),
    **{f"{name}, 16-bit points": (name, W4G16, SIXTEEN_BIT) for name in ("llama", "opt", "gemma2", "gpt_neox")},
    **{f"{name}, 8-bit points": (name, W8C, EIGHT_BIT) for name in ("llama", "opt", "gemma2")},
    "8-bit soft-caps of 8-bit scores": ("gemma2", W8C, {"narrow": ("scores", "capped")}),
    "8-bit soft-caps of 16-bit scores": ("gemma2", W8C, {"narrow": ("capped",)}),
    "16-bit soft-caps of 8-bit scores": ("gemma2", W4C, {"narrow": ("scores",)}),
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """(name, scheme, options) → graph and folder, made once."""
    made = {}

    def find(name, scheme, options):
        key = (name, scheme, str(options))
        if key not in made:
            graph = lowered(name, scheme, **options)
            made[key] = graph, packaged(graph, tmp_path_factory.mktemp("package") / "package")
        return made[key]

    return find


def engines(case, folder, **options):
    """Every variant of the kernels with one thread and two; one of them, which differs from case to case, with more."""
    for kernels, threads in itertools.product(KERNELS, (1, 2)):
        yield Native(folder, kernels, threads, **options), threads
    turn = list(CASES).index(case)
    for threads in (3, 5):
        yield Native(folder, KERNELS[(turn + threads) % len(KERNELS)], threads, **options), threads


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_the_interpreters(case, package):
    graph, folder = package(*CASES[case])
    references = [Reference(graph, TOKENS, lengths) for lengths in (None, [9, 14], [22, 1])]
    for native, _ in engines(case, folder, keep_all=True):
        for reference in references:
            reference.require_equal_trace(native)


@pytest.mark.parametrize("case", CASES)
def test_so_are_the_logits_of_the_fused_plan_in_every_split(case, package):
    graph, folder = package(*CASES[case])
    reference = Reference(graph, TOKENS)
    for native, threads in engines(case, folder):
        for lengths in SPLITS if threads == 1 else SHORT_SPLITS:
            reference.require_equal_logits(native, lengths)
            found = native.logits(TOKENS, lengths, only_last=True)
            require_equal(found, reference.logits[np.cumsum(lengths) - 1], f"last logits of parts {lengths}")


# Longer than the rows that the engine runs at once, to the last position of the context.
LONG = {
    "window of 6": ("mistral", W8C, {}),
    "window of 3": ("window, gated gelu", W4G16, {}),
    "windows and soft-caps, no prefix": ("gemma2", W4C, {"prefix": ()}),
    "16-bit probabilities": ("gpt_neox", W8C, SIXTEEN_BIT),
    "no window": ("qwen3", W8C, {}),
}


@pytest.mark.parametrize("case", LONG)
def test_a_text_that_fills_the_context_is_equal_and_then_refused(case, tmp_path):
    name, scheme, options = LONG[case]
    graph = longer(lowered(name, scheme, **options), 300)
    tokens = np.random.default_rng(4).integers(0, 96, 300 - graph.num_prefix)
    reference, folder = Reference(graph, tokens), packaged(graph, tmp_path / "package")
    lengths = [129, 31, 1, 1, len(tokens) - 162]
    for kernels, threads in [*itertools.product(KERNELS, (1, 2)), (KERNELS[0], 3), (KERNELS[-1], 5)]:
        reference.require_equal_trace(Native(folder, kernels, threads, keep_all=True))
        native = Native(folder, kernels, threads)
        for parts in (None, lengths):
            reference.require_equal_logits(native, parts)
        require_equal(native.logits(tokens, only_last=True), reference.logits[-1:], "the last logits alone")
        session = native.session()
        run(session, tokens)
        with pytest.raises(UsageError, match="room for 0 more"):
            run(session, [1])


def longer(graph, context):
    """The same graph for more positions: tables of angles and learned positions begin again where they end."""
    parameters = ("cos", "sin", "position_codes", "position_mantissa", "position_shift")
    names = {op.constants[parameter] for op in graph.ops for parameter in parameters if parameter in op.constants}
    constants = {name: graph.constants[name] for name in names}
    resized = {
        name: replace(constant, array=np.resize(constant.array, (context, *constant.array.shape[1:])))
        for name, constant in constants.items()
    }
    return replace(graph, context=context, constants={**graph.constants, **resized})


def test_what_a_session_has_no_room_for_is_refused_and_changes_nothing(package):
    graph, folder = package("mistral", W8C, {})
    reference = Reference(graph, TOKENS[:12])
    native = Native(folder, KERNELS[0], 2)
    session = native.session(capacity=12)
    first = run(session, TOKENS[:10])
    for tokens, message in [(TOKENS[:3], "room for 2 more"), ([], "no token"), ([96], "outside"), ([-1], "outside")]:
        with pytest.raises(UsageError, match=message):
            run(session, tokens)
    found = np.concatenate([first, run(session, TOKENS[10:12])])
    require_equal(found, reference.logits, "logits around what was refused")


@pytest.mark.parametrize("token", [0, 95])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_token_again_and_again(name, token, package):
    """All scores of a row are close to each other, and many are equal."""
    graph, folder = package(name, W8C, {})
    reference = Reference(graph, [token] * 40)
    for kernels in KERNELS:
        reference.require_equal_trace(Native(folder, kernels, 1, keep_all=True))
        reference.require_equal_logits(Native(folder, kernels, 1))
