import pytest

from mobilequant.report import wording
from mobilequant.report.points import by_role


@pytest.mark.parametrize(
    ("spelled", "expected"),
    [
        (wording.megabytes(136_100_000), "136.1 MB"),
        (wording.megabytes(None), "–"),
        (wording.count(134_515_008), "134.5 M"),
        (wording.count(1_100_048_384), "1.10 B"),
        (wording.count(49_152), "49,152"),
        (wording.perplexity(24.157), "24.16"),
        (wording.perplexity(123456.0), "1.23e+05"),
        (wording.change(-0.58), "−0.6 %"),
        (wording.change(12345.6), "+12,346 %"),
        (wording.share(0.897), "89.7 %"),
        (wording.duration(0.42), "0.4 s"),
        (wording.duration(83.2), "1 min 23 s"),
        (wording.duration(3725), "1 h 02 min"),
        (wording.decibel(None), "exact"),
        (wording.decibel(-3.04), "−3.0"),
        (wording.compact(2979.785), "2,980"),
    ],
)
def test_numbers(spelled, expected):
    assert spelled == expected


def test_points_by_role():
    points = ["embed", "layers.0.o", "layers.2.o", "layers.1.o", "layers.5.o", "layers.7.down"]
    assert by_role(points) == [("embed", ""), ("o", "layers 0–2, 5"), ("down", "layer 7")]
