"""How often the state of a training is written."""

from types import SimpleNamespace

import torch

from mobilequant.methods import session
from mobilequant.pipeline.method import Result
from mobilequant.pipeline.workspace import Workspace


def test_the_state_of_a_training_is_written_once_a_minute(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(session, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(session, "PAUSE_S", 60.0)
    place = session.Session(None, torch.empty(0), torch.empty(0), None, Workspace(tmp_path), "0-x").memory("training")
    kept = []
    for step in range(5):
        now[0] += 25.0
        kept.append(place.keep(Result(measures={"step": step})))
    assert kept == [False, False, True, False, False]
    assert place.recall().measures["step"] == 2
