"""The documentation is run: commands parse, Python works on a tiny model, recipes load, links lead somewhere."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest
import typer.main

from mobilequant.cli.main import app
from mobilequant.data.text import load_text
from mobilequant.jobs import evaluate as evaluate_module
from mobilequant.jobs import quantize as quantize_module
from mobilequant.models.sources.folder import load_folder
from mobilequant.pipeline.recipe import load_recipe, parse_recipe, recipe_hash

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)")


def blocks(language):
    found = [
        (page, text) for page in PAGES for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language
    ]
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}", marks=[pytest.mark.model] * ("resolve" in text))
        for number, (page, text) in enumerate(found)
    ]


@pytest.mark.parametrize("text", blocks("console"))
def test_commands_parse(text):
    commands = typer.main.get_command(app).commands
    for line in text.splitlines():
        program, *words = shlex.split(line.removeprefix("$ "))
        if program == "mobilequant":
            commands[words[0]].make_context(words[0], words[1:])


@pytest.mark.parametrize("text", blocks("yaml"))
def test_recipes_load(text):
    parse_recipe(text, "the documentation")


@pytest.mark.parametrize("path", sorted((ROOT / "bench" / "recipes").glob("*.yaml")), ids=lambda path: path.name)
def test_recipes_of_the_benches_load(path):
    load_recipe(path)


def test_the_readme_shows_the_real_preset():
    (shown,) = [text for kind, text in BLOCK.findall((ROOT / "README.md").read_text("utf-8")) if kind == "yaml"]
    assert recipe_hash(parse_recipe(shown, "README.md").recipe()) == recipe_hash(load_recipe("w8a8-fast"))


@pytest.mark.parametrize("text", blocks("python"))
def test_python_runs(text, tiny_checkpoint, tiny_recipe, scoring_text, tmp_path, monkeypatch):
    """On the tiny model and texts in place of the built-in ones."""
    monkeypatch.chdir(tmp_path)
    for module in (quantize_module, evaluate_module):
        monkeypatch.setattr(module, "resolve", lambda name, **options: load_folder(tiny_checkpoint))
    monkeypatch.setattr(quantize_module, "choose_recipe", lambda preset, *rest: load_recipe(tiny_recipe))
    texts = {"wiki_squad": load_text(scoring_text)}
    monkeypatch.setattr(evaluate_module, "load_text", lambda name: texts.get(name) or load_text(name))
    small = partial(evaluate_module.evaluate, window=32, tokens=62)
    monkeypatch.setattr(evaluate_module, "evaluate", lambda package, text, **sizes: small(package, text=text))
    exec(compile(text, "documentation", "exec"), {})
    assert (tmp_path / "smollm2-w8a8" / "package.json").is_file() == ("quantize(" in text)


def test_the_results_markers_are_there_once():
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.count("<!-- results:begin -->") == text.count("<!-- results:end -->") == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_inside_the_repository_exist(page):
    for target in LINK.findall(page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target
