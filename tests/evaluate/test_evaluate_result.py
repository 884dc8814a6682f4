import json

import pytest
import torch

from mobilequant.errors import DataError
from mobilequant.evaluate.protocol import protocol
from mobilequant.evaluate.result import Evaluation, config_hash, read_evaluation, write_evaluation
from mobilequant.evaluate.sqnr import SqnrRow
from mobilequant.pipeline.environment import environment


def evaluation(**changed) -> Evaluation:
    settings = {"window": 512, "preset": "w8a8-fast"}
    fields = {
        "model": "tiny",
        "settings": settings,
        "config_hash": config_hash(settings),
        "environment": environment(),
        "protocol": protocol(torch.zeros(2, 4, dtype=torch.long), bos=None),
        "scores": {"float": {"ppl": 24.5}, "integer": {"ppl": 25.0, "kl": 0.01}},
        "sqnr": (SqnrRow("layers.0.down", "down", 0, None, 1.0, -1.0, 1.0),),
    }
    return Evaluation(**{**fields, **changed})


def test_round_trip_and_equal_bytes(tmp_path):
    first, second = tmp_path / "a" / "1.json", tmp_path / "2.json"
    write_evaluation(first, evaluation())
    write_evaluation(second, evaluation(scores=dict(reversed(evaluation().scores.items()))))
    assert first.read_bytes() == second.read_bytes()
    assert read_evaluation(first) == evaluation()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["1.json"]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        write_evaluation(tmp_path / "x.json", evaluation(scores={"float": {"ppl": float("nan")}}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["", "{", "{}", '{"surprise": 1}'])
def test_a_broken_file_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DataError):
        read_evaluation(tmp_path / "x.json")


def test_unknown_keys_are_refused(tmp_path):
    path = tmp_path / "x.json"
    write_evaluation(path, evaluation())
    path.write_text(json.dumps({**json.loads(path.read_text()), "surprise": 1}))
    with pytest.raises(DataError, match="surprise"):
        read_evaluation(path)


def test_the_hash_ignores_the_order_of_keys_only():
    assert config_hash({"a": 1, "b": [1, 2]}) == config_hash({"b": [1, 2], "a": 1})
    assert config_hash({"a": 1, "b": [1, 2]}) != config_hash({"a": 1, "b": [2, 1]})
