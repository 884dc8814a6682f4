"""What each role of activations costs, on a tiny package."""

import json

import pytest

import activation_cost


def test_roles_are_told_apart(tiny_package, scoring_text, capsys):
    given = [tiny_package, "--text", scoring_text, "--windows", 2, "--length", 24]
    activation_cost.main([str(word) for word in given])
    everything, weights, *roles = map(json.loads, capsys.readouterr().out.splitlines())
    assert everything["everything"] > weights["weights"] > 0
    by_role = {line["role"]: line for line in roles}
    assert {"product", "attn_norm", "probs"} <= by_role.keys() and by_role["product"]["points"] == 2
    assert by_role["product"]["sixteen_bit"] == 1 and by_role["scores"]["sixteen_bit"] == 2
    wide = by_role["mlp_residual"]  # its steps are far below what anything else costs
    assert wide["alone"] == pytest.approx(weights["weights"], rel=0.2)
    assert wide["all_but"] == pytest.approx(everything["everything"], rel=0.2)
