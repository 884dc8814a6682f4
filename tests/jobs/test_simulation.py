"""What methods changed in the architecture comes back with a package, though its source is the model before them."""

import pytest
import torch

from mobilequant.integer.lower import lower
from mobilequant.jobs.simulation import load_simulation, save_simulation
from mobilequant.methods.registry import make
from mobilequant.methods.run import run_methods
from mobilequant.models.decoder import forward
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.scheme import Scheme

TOKENS = torch.randint(0, 96, (3, 16), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("first", ["rotate", "smoothquant"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "opt", "stablelm", "gemma2"])
def test_norms_and_head_are_those_of_the_graph(family, first, tmp_path):
    source = tiny_model(family)
    methods = [make(first, {}), make("ranges", {"estimator": "minmax"}), make("rtn", {})]
    before = run_methods(source, Scheme(8), methods, TOKENS, prefix=(1,))
    save_simulation(before, tmp_path)
    after = load_simulation(tmp_path, lower(before), source)
    assert after.model.arch == before.model.arch
    logits = [
        forward(each.simulated(), TOKENS, tap=each.tap(), prefix=each.simulated_prefix()) for each in (before, after)
    ]
    assert torch.equal(*logits)
