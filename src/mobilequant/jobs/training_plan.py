"""What methods that train take: time, memory, and the state on disk that lets them go on after a kill.

    per weight and token    forward 2 · backward 4 · teacher 2 · forward again with recompute 2     operations
    per activation and token, and per weight and step: rounding, norms, softmax, products           ELEMENT operations

    kept for the backward pass   an 8-bit activation as it arrives and as it leaves, any other once; the matrices as
                                 folded and as rounded; with recompute the residuals, and all that of one block

The products of attention count as two matrices of (query width, window) in each block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mobilequant.arch import point
from mobilequant.arch.architecture import Architecture
from mobilequant.arch.size import elements_per_token
from mobilequant.jobs.model_size import block_parameters, matrix_sizes
from mobilequant.methods.learned_rotation.method import LearnedRotation
from mobilequant.methods.mobilequant.method import MobileQuant, MobileQuantConfig
from mobilequant.methods.omniquant.method import OmniQuant, OmniQuantConfig
from mobilequant.methods.self_distillation.method import SelfDistillation
from mobilequant.methods.signround.method import SignRound, SignRoundConfig
from mobilequant.methods.training import DistillationConfig
from mobilequant.pipeline.method import Method
from mobilequant.pipeline.recipe import CalibrationData
from mobilequant.pipeline.scheme import Scheme

# What a processor could compute in matrix products in the time that one number takes, forward and back. On a CPU each
# of some thirty operations goes through memory (measured: 1,600 to 3,800). On a GPU a quantizer is two kernels; that
# number is assumed, not measured.
ELEMENT = {"cpu": 2500.0, "cuda": 250.0}
_FLOAT_BYTES = 4
_LOGITS = 8  # of one window at a time: both models', their logarithms, and gradients
_LEAF_COPIES = 5  # leaf, gradient, two moments, best state
_KEPT_COPIES = 4  # on disk: no gradient
_EXPONENTIAL = 24  # of a matrix, for the backward pass: a dozen products, in float64
_LOOKS = 9  # at what is held out


@dataclass(frozen=True)
class TrainingCost:
    """Operations in all, bytes of memory beyond the model, bytes in the work folder."""

    operations: float
    memory_bytes: int
    work_bytes: int


@dataclass(frozen=True)
class _Work:
    """What a method does, in windows.

    trained: with a backward pass. looked: forward only, by both models. distils: the teacher and both heads run in each
    step. held: residuals of all windows that are kept. offsets: a leaf for each weight. moves: rounding may start from
    other weights than the model's. turns: every matrix is rotated in each step, and none is written.
    """

    windows: int
    trained: int
    looked: int
    batch: int
    distils: bool
    held: int = 0
    recompute: bool = False
    one_block: bool = False
    folds: bool = True
    offsets: bool = False
    moves: bool = False
    turns: bool = False


def training_cost(
    method: Method, arch: Architecture, scheme: Scheme, data: CalibrationData, device: str = "cpu"
) -> TrainingCost | None:
    """What a method costs on these training windows; None where it does not train."""
    work = _work(method, data.count)
    if work is None:
        return None
    return TrainingCost(
        _operations(work, arch, data.window, device),
        _memory_bytes(work, arch, scheme, data.window),
        _work_bytes(work, arch),
    )


def batch_of(method: Method, data: CalibrationData) -> int | None:
    """Windows in a step of a method; None where it does not train."""
    work = _work(method, data.count)
    return None if work is None else work.batch


def _work(method: Method, windows: int) -> _Work | None:
    if isinstance(method, MobileQuant):
        config: MobileQuantConfig = method.config
        if config.mode == "faithful":
            return _as_published(windows, config.chosen_epochs, one_block=False)
        rounds = config.weights == "rounding"
        return replace(_distilled(windows, config, folds=bool(config.pairs), offsets=rounds), moves=rounds)
    if isinstance(method, SelfDistillation):
        return _distilled(windows, method.config, folds=False, offsets=True)
    if isinstance(method, LearnedRotation):
        return replace(_distilled(windows, method.config, folds=True, offsets=False), turns=True)
    if isinstance(method, OmniQuant):
        block_wise: OmniQuantConfig = method.config
        return _as_published(windows, block_wise.epochs, one_block=True)
    if isinstance(method, SignRound):
        return _signround(windows, method.config)
    return None


def _distilled(windows: int, config: DistillationConfig, *, folds: bool, offsets: bool) -> _Work:
    seen = windows - config.held_out
    batches = config.schedule(seen).batches(seen)
    return _Work(
        windows,
        trained=config.epochs * batches * config.batch,
        looked=_LOOKS * config.held_out,
        batch=config.batch,
        distils=True,
        recompute=config.recompute,
        folds=folds,
        offsets=offsets,
    )


def _as_published(windows: int, epochs: int, *, one_block: bool) -> _Work:
    """One window at a time against residuals that are held; block by block also those that enter."""
    held = 2 if one_block else 1
    return _Work(windows, epochs * windows, windows, batch=1, distils=False, held=held, one_block=one_block)


def _signround(windows: int, config: SignRoundConfig) -> _Work:
    """A block at a time, of batches against held residuals; offsets of all blocks are there from the start."""
    steps = config.epochs * max(1, windows // config.batch)
    batch = min(config.batch, windows)
    return _Work(
        windows, steps * batch, windows, batch, distils=False, held=2, one_block=True, folds=False, offsets=True
    )


def _operations(work: _Work, arch: Architecture, window: int, device: str) -> float:
    products = arch.num_layers * 2 * window * arch.num_heads * arch.head_dim  # scores and context
    body = block_parameters(arch) + products
    head = arch.vocab_size * arch.hidden_size if work.distils else 0
    each_block = 6 + (2 if work.distils else 0) + (2 if work.recompute else 0)
    tokens = window * work.trained
    matrices: float = tokens * (each_block * body + 12 * head) + window * work.looked * 4 * (body + head)
    if work.turns:
        matrices += work.trained / work.batch * each_block * arch.hidden_size * block_parameters(arch)
    elements = tokens * _activations(arch, window) + work.trained / work.batch * block_parameters(arch)
    again = 4 / 3 if work.recompute else 1.0
    return matrices + ELEMENT[device] * elements * again


def _memory_bytes(work: _Work, arch: Architecture, scheme: Scheme, window: int) -> int:
    blocks = 1 if work.recompute or work.one_block else arch.num_layers
    per_token = _kept_per_token(arch, scheme, window) * blocks
    if work.recompute:
        per_token += arch.num_layers * arch.hidden_size
    matrices = (3 if work.folds else 2) * block_parameters(arch) * blocks // arch.num_layers
    matrices += block_parameters(arch) if work.moves else 0
    in_training = _offsets(work, arch) // (arch.num_layers if work.one_block else 1)
    leaves = _offsets(work, arch) + (_LEAF_COPIES - 1) * in_training
    leaves += (_LEAF_COPIES + _EXPONENTIAL) * _rotations(work, arch)
    logits = _LOGITS * window * arch.vocab_size if work.distils else 0
    held = work.held * work.windows * window * arch.hidden_size
    return _FLOAT_BYTES * (work.batch * window * per_token + matrices + leaves + logits + held)


def _work_bytes(work: _Work, arch: Architecture) -> int:
    """The state, twice because the new one is written before the old one goes; codes; folded tensors or rotations."""
    rows = arch.num_layers * sum(rows for rows, _ in matrix_sizes(arch).values())
    state = 2 * _KEPT_COPIES * _FLOAT_BYTES * (_offsets(work, arch) + _rotations(work, arch) + 2 * rows)
    if work.turns:
        return state + 2 * _FLOAT_BYTES * _rotations(work, arch)
    return state + block_parameters(arch) * (1 + (_FLOAT_BYTES if work.folds else 0))


def _kept_per_token(arch: Architecture, scheme: Scheme, window: int) -> int:
    """Numbers of the largest block that wait for the backward pass."""
    copies = {8: 2, 16: 1}
    return max(
        sum(
            copies[scheme.activation_qtype(name).num_bits] * elements_per_token(arch, name, seen=window)
            for name in point.block_points(arch, layer)
        )
        for layer in range(arch.num_layers)
    )


def _activations(arch: Architecture, window: int) -> int:
    """Numbers per token in all blocks."""
    layers = range(arch.num_layers)
    names = [name for layer in layers for name in point.block_points(arch, layer)]
    return sum(elements_per_token(arch, name, seen=window) for name in names)


def _offsets(work: _Work, arch: Architecture) -> int:
    """Leaves as large as the weights that they belong to; a tied head is a table and has none."""
    if not work.offsets:
        return 0
    has_head = not (work.one_block or arch.tied_head)
    return block_parameters(arch) + (arch.vocab_size * arch.hidden_size if has_head else 0)


def _rotations(work: _Work, arch: Architecture) -> int:
    """Leaves of learned rotations: one matrix for the residual, one for each key/value head."""
    heads = arch.num_layers * arch.num_kv_heads * arch.head_dim**2
    return arch.hidden_size**2 + heads if work.turns else 0
