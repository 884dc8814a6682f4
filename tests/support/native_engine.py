"""The C++ engine beside the reference interpreter: the only place where tests touch the engine's module."""

import itertools
from pathlib import Path

import numpy as np
import torch

from mobilequant.engine import _core
from mobilequant.integer.interpreter import Interpreter
from mobilequant.integer.package import save_graph, write_manifest

KERNELS = _core.kernels()  # the variants that this machine can run
UsageError, PackageError = _core.UsageError, _core.PackageError


def packaged(graph, folder):
    """The graph as a package in a new folder."""
    folder.mkdir(parents=True)
    save_graph(graph, folder)
    write_manifest(folder, {"model": {"name": folder.name}})
    return folder


class Native:
    """A package opened by the engine; every text begins with a session of its own."""

    def __init__(self, folder: Path, kernels: str, threads: int, *, keep_all=False) -> None:
        self.engine = _core.Engine(folder, threads, kernels, keep_all)

    def session(self, capacity=0):
        return _core.Session(self.engine, capacity)

    def logits(self, tokens, lengths=None, *, capacity=0, only_last=False):
        """Logits of all parts of a text, one behind the other."""
        session = self.session(capacity)
        parts = np.split(_ids(tokens), np.cumsum(lengths)[:-1]) if lengths else [_ids(tokens)]
        return np.concatenate([run(session, part, only_last) for part in parts])

    def trace(self, tokens, lengths=None):
        """Every tensor of the last part of a text, by name."""
        parts = np.split(_ids(tokens), np.cumsum(lengths)[:-1]) if lengths else [_ids(tokens)]
        session = self.session()
        for part in parts[:-1]:
            run(session, part)
        return dict(session.trace(self.engine, parts[-1]))


def run(session, tokens, only_last=False):
    """Logits of tokens behind what the session has read."""
    return session.run(_ids(tokens), only_last)


def _ids(tokens):
    return np.ascontiguousarray(tokens, dtype=np.int32)


class Reference:
    """What the interpreter makes of one text: logits of all of it, every tensor of its last part."""

    def __init__(self, graph, tokens, lengths=None) -> None:
        self.graph, self.tokens, self.lengths = graph, list(tokens), lengths
        interpreter = Interpreter(graph)
        state, found = interpreter.state(), []
        for part in torch.tensor(self.tokens).split(lengths or [len(self.tokens)]):
            self.tensors = {}
            found.append(interpreter.run(part, state, lambda spec, codes: self.tensors.update({spec.name: codes})))
        self.logits = torch.cat(found).numpy()
        self.tensors = {name: codes.numpy() for name, codes in self.tensors.items()}

    def require_equal_trace(self, native):
        """The engine's tensors have the same names, types, shapes and codes."""
        found = native.trace(self.tokens, self.lengths)
        assert list(found) == [op.output for op in self.graph.ops]
        for name, codes in found.items():
            require_equal(codes, self.tensors[name], name)

    def require_equal_logits(self, native, lengths=None):
        """So do the logits, however the text is cut."""
        require_equal(native.logits(self.tokens, lengths), self.logits, f"logits of parts {lengths}")


def require_equal(found, expected, what):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape), what
    if not (found == expected).all():
        first = np.argwhere(found != expected)[0]
        pair = f"{found[tuple(first)]}, expected {expected[tuple(first)]}"
        raise AssertionError(f"{what}: {(found != expected).sum()} codes differ, the first at {first}: {pair}")


def require_equal_everywhere(graph, folder, tokens, *, threads=(1, 2), lengths=None):
    """Every tensor, and logits of the fused plan at once, in the given parts and one by one: for all kernels."""
    packaged(graph, folder)
    reference = Reference(graph, tokens, lengths)
    for kernels, count in itertools.product(KERNELS, threads):
        reference.require_equal_trace(Native(folder, kernels, count, keep_all=True))
        fused = Native(folder, kernels, count)
        for parts in (None, lengths, [1] * len(reference.tokens)):
            reference.require_equal_logits(fused, parts)
