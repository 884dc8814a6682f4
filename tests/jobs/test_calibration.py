from dataclasses import replace

from mobilequant.jobs.calibration import calibration_windows
from mobilequant.models.tiny import tiny_model
from mobilequant.pipeline.recipe import CalibrationData

DATA = CalibrationData(text="x", window=6, count=3, seed=None)
ARCH = tiny_model("llama").arch


def test_windows_start_with_bos_where_the_model_wants_it():
    wants = replace(ARCH, add_bos=True, bos_token=1)
    assert wants.leading_token == 1
    found = calibration_windows(range(10, 40), DATA, wants)
    assert found.shape == (3, 6)
    assert found[:, 0].tolist() == [1, 1, 1]
    assert found[:2, 1:].flatten().tolist() == list(range(10, 20))


def test_windows_are_the_plain_text_otherwise():
    assert replace(ARCH, add_bos=False).leading_token is None
    found = calibration_windows(range(18), DATA, replace(ARCH, add_bos=False))
    assert found.flatten().tolist() == list(range(18))
