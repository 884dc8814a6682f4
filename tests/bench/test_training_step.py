"""A training step timed on a tiny model, without a compiler of C++."""

import json

import training_step


def test_losses_are_the_same_with_a_compiler_and_without(capsys):
    sizes = ["--model", "tiny", "--device", "cpu", "--windows", "2", "--length", "14", "--steps", "2"]
    training_step.main([*sizes, "--compare", "--backend", "aot_eager_decomp_partition", "--profile"])
    printed = capsys.readouterr().out.splitlines()
    eager, compiled, difference = (json.loads(line) for line in printed if line.startswith("{"))
    assert (eager["way"], compiled["way"]) == ("eager", "compiled")
    assert eager["functions"] == 0 and compiled["functions"] == 3  # blocks of student and teacher, and the head
    assert difference["largest_difference"] < 1e-4 and eager["losses"][0] != eager["losses"][1]
    assert sum("times" in line for line in printed) > 10
