"""The table of the kernels' bench."""

from kernels.run import cell, table

LIMIT = {"int8_gops": 400.0, "read_gb_s": 20.0, "read_76mb_gb_s": 25.0}


def line(kernels, name, unit, value):
    return {"kernels": kernels, "name": name, "unit": unit, "value": value}


def test_speeds_stand_beside_their_share_of_the_limit():
    assert cell(line("avx2", "W4", "GOPS", 100.0), LIMIT) == "100 (25%)"
    assert cell(line("avx2", "W4", "GB/s", 5.0), LIMIT) == "5.00 (20%)"
    assert cell(line("avx2", "norm", "ns an element", 0.254), LIMIT) == "0.25"
    assert cell(None, LIMIT) == "–"


def test_tiles_of_different_heights_share_a_line():
    found = [
        line("avx512-vnni", "W4, 576 columns, 8 rows", "GOPS", 400.0),
        line("avx2", "W4, 576 columns, 3 rows", "GOPS", 100.0),
    ]
    assert table(found, LIMIT).splitlines()[2] == "| W4, 576 columns, a tile | GOPS | 400 (100%) | 100 (25%) |"
