import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mobilequant.cli import main as main_module
from mobilequant.cli.main import app, main
from mobilequant.errors import LoweringError
from mobilequant.jobs import quantize as quantize_module
from mobilequant.pipeline.recipe import load_recipe, recipe_hash

COMMANDS = ("quantize", "eval", "generate", "chat", "bench", "diff", "inspect", "models", "recipes", "demo")


def run(*arguments):
    return main([str(argument) for argument in arguments])


def run_json(capsys, *arguments):
    capsys.readouterr()
    assert run(*arguments, "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_explains_itself_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"], terminal_width=100)
    assert result.exit_code == 0
    assert f"Example: mobilequant {command}" in " ".join(result.output.split())


def test_the_words_that_scripts_rely_on(tiny_checkpoint, tiny_recipe, scoring_text, tmp_path, capsys):
    out = tmp_path / "package"
    made = run_json(capsys, "quantize", tiny_checkpoint, "--recipe", tiny_recipe, "--out", out)
    assert made["package"] == str(out)
    found = run_json(capsys, "inspect", out)
    assert found["float_ops"] == 0
    assert isinstance(found["sixteen_bit"], list)
    assert found["bits_per_weight"] > 8
    scores = run_json(capsys, "eval", out, "--text", scoring_text, "--window", 32, "--tokens", 62)
    assert {"ppl", "kl", "top1"} <= set(scores["integer"])
    assert scores["float"]["ppl"] > 1
    assert scores["fake_quant"]["ppl"] > 1
    assert run("generate", out, "--prompt", "abc", "--max-new-tokens", 4, "--greedy") == 0
    assert capsys.readouterr().out.startswith("abc")


def test_tables_for_people(tiny_package, scoring_text, capsys):
    assert run("inspect", tiny_package) == 0
    assert "floating-point operations" in capsys.readouterr().out
    assert run("eval", tiny_package, "--text", scoring_text, "--window", 32, "--tokens", 62) == 0
    assert "integer" in capsys.readouterr().out


def test_python_and_command_make_the_same_recipe(tiny_checkpoint, tiny_recipe, tmp_path, capsys):
    from mobilequant import quantize

    out = quantize(tiny_checkpoint, recipe=tiny_recipe, seed=3, out=tmp_path / "python")
    made = run_json(
        capsys, "quantize", tiny_checkpoint, "--recipe", tiny_recipe, "--seed", 3, "--out", tmp_path / "cli"
    )
    assert json.loads((out / "package.json").read_text())["recipe_sha256"] == made["recipe_sha256"]
    assert (out / "weights.safetensors").read_bytes() == (tmp_path / "cli" / "weights.safetensors").read_bytes()


def test_a_preset_has_one_hash_everywhere(capsys):
    listed = {entry["name"]: entry["recipe_sha256"] for entry in run_json(capsys, "recipes")}
    assert listed["w8a8-fast"] == recipe_hash(load_recipe("w8a8-fast"))


def test_a_preset_prints_as_a_recipe_file(tmp_path, capsys):
    assert run("recipes", "w4a8-fast") == 0
    path = tmp_path / "mine.yaml"
    path.write_text(capsys.readouterr().out)
    assert load_recipe(path) == load_recipe("w4a8-fast")


def test_a_preset_prints_as_json(capsys):
    found = run_json(capsys, "recipes", "w4a8-fast")
    assert found["name"] == "w4a8-fast"
    assert found["recipe_sha256"] == recipe_hash(load_recipe("w4a8-fast"))


def test_recipes_and_models_as_tables(capsys):
    assert run("recipes") == 0
    assert "w8a8-fast" in capsys.readouterr().out
    assert run("models") == 0
    assert "smollm2-135m" in capsys.readouterr().out


def test_models_as_json(capsys):
    assert "smollm2-135m" in [model["name"] for model in run_json(capsys, "models")]


def test_a_dry_run_tells_the_plan_and_writes_nothing(tiny_checkpoint, tiny_recipe, tmp_path, capsys):
    made = run_json(
        capsys, "quantize", tiny_checkpoint, "--recipe", tiny_recipe, "--out", tmp_path / "out", "--dry-run"
    )
    assert made["package"] is None
    assert set(made["plan"]) == {"time_s", "memory_bytes", "work_bytes", "package_bytes", "device_bytes"}
    assert not (tmp_path / "out").exists()


def test_json_log_is_one_object_a_line(tiny_checkpoint, tiny_recipe, tmp_path, capsys):
    arguments = ("quantize", tiny_checkpoint, "--recipe", tiny_recipe, "--out", tmp_path / "out")
    assert run(*arguments, "--log-format", "json", "--format", "json") == 0
    printed = capsys.readouterr()
    events = [json.loads(line) for line in printed.err.splitlines()]
    assert {"plan", "progress", "log"} == {event["event"] for event in events}
    assert [event["eta_s"] for event in events if event["event"] == "progress" and event["done"]][-1] == 0
    json.loads(printed.out)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--preset", "w8a8-fats"), 2, "Did you mean 'w8a8-fast'?"),
        (("--recipe", "gone.yaml"), 2, "cannot read the recipe"),
        (("--preset", "w8a8-fast", "--recipe", "x.yaml"), 2, "both a preset and a recipe"),
        (("--frobnicate",), 2, "No such option"),
    ],
)
def test_usage_errors(arguments, code, said, tmp_path, capsys):
    assert run("quantize", "smollm2-135m", "--out", tmp_path / "out", *arguments) == code
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.out == ""


def test_not_a_package(tmp_path, capsys):
    assert run("inspect", tmp_path, "--format", "json") == 7
    printed = capsys.readouterr()
    assert "not a MobileQuant package" in printed.err
    assert printed.out == ""


def test_an_interruption_says_how_to_continue(tiny_checkpoint, tiny_recipe, tmp_path, monkeypatch, capsys):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(quantize_module, "run_methods", interrupted)
    arguments = ("quantize", tiny_checkpoint, "--recipe", tiny_recipe, "--out", tmp_path / "my out")
    assert run(*arguments) == 130
    message = capsys.readouterr().err
    assert f"--out '{tmp_path}/my out' --resume" in message
    monkeypatch.undo()
    assert run(*arguments, "--resume") == 0


def test_a_lowering_error_has_its_code(tiny_checkpoint, tiny_recipe, tmp_path, monkeypatch, capsys):
    def refuse(quantized):
        raise LoweringError("too wide", "Use fewer channels.")

    monkeypatch.setattr(quantize_module, "lower", refuse)
    assert run("quantize", tiny_checkpoint, "--recipe", tiny_recipe, "--out", tmp_path / "out") == 6
    assert "Use fewer channels." in capsys.readouterr().err


def test_an_unexpected_error_is_short_and_leaves_a_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path))
    monkeypatch.setattr(main_module, "app", lambda *args, **options: 1 / 0)
    assert run("inspect", "x") == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "last-error.log").read_text()
    assert run("--debug", "inspect", "x") == 1
    assert "Traceback" in capsys.readouterr().err


def test_no_memory_is_a_matter_of_resources(monkeypatch, capsys):
    def fails(*args, **options):
        raise MemoryError

    monkeypatch.setattr(main_module, "app", fails)
    assert run("inspect", "x") == 5
    assert "not enough memory" in capsys.readouterr().err


def test_an_unexpected_error_is_short_even_where_no_log_can_be_kept(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MOBILEQUANT_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(main_module, "app", lambda *args, **options: 1 / 0)
    assert run("inspect", "x") == 1
    assert "Please report it" in capsys.readouterr().err


def in_a_new_process(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_package_and_the_command_line_stays_light():
    heavy = (
        "import sys; print([name for name in ('torch', 'transformers', 'numpy', 'pydantic') if name in sys.modules])"
    )
    assert in_a_new_process(f"import mobilequant; {heavy}") == "[]\n"
    assert "torch" not in in_a_new_process(f"import mobilequant.cli.main; {heavy}")


def test_public_names_can_be_called_whatever_was_imported_before():
    code = (
        "import mobilequant.evaluate.score, mobilequant.engine.engine, mobilequant as m; "
        "print([n for n in dir(m) if not callable(getattr(m, n))])"
    )
    assert in_a_new_process(code) == "['__version__']\n"


def test_the_program_runs_on_its_own():
    code = "import sys; from mobilequant.cli.main import main; sys.exit(main(['--version']))"
    assert in_a_new_process(code).startswith("mobilequant ")
