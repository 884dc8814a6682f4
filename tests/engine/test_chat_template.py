"""Chat templates: what the field writes renders; what is hostile reaches nothing and ends."""

import json
import shutil

import pytest

from mobilequant.engine import chat_template as module
from mobilequant.engine.chat_template import ChatTemplate
from mobilequant.errors import PackageError, UsageError
from mobilequant.integer.package import write_manifest

SAID = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi {{ x }}"}]
CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message.content | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def render(source, messages=SAID, **names):
    return ChatTemplate(source, names).render(messages)


def test_a_template_of_the_field_renders():
    expected = "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi {{ x }}<|im_end|>\n<|im_start|>assistant\n"
    assert render(CHATML) == expected


def test_it_finds_what_templates_use():
    assert render("{{ bos_token }}{{ messages | length }}", bos_token="<s>") == "<s>2"
    assert render("{% for m in messages %}{% break %}{% endfor %}{{ {'a': 'é'} | tojson }}") == '{"a": "é"}'
    assert render("{{ strftime_now('%Y') }}").isdecimal()
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}!") == "Be kind.!"


def test_a_template_that_refuses_a_role_says_so():
    with pytest.raises(UsageError, match="no system here") as error:
        render("{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}")
    assert "--system" in error.value.remedy


HOSTILE = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ messages.append(1) }}",
    "{% include '/etc/passwd' %}",
    "{{ 'a' * 10000000000 }}",
    "{{ ('a' * 9999999) * 9999999 }}",
    "{{ 9 ** 9 ** 9 }}",
    "{% for i in range(1000000000) %}{% endfor %}",
    "{% for i in range(9999) %}{{ 'a' * 9999 }}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 1 / 0 }}",
    "{{ missing.attribute }}",
]


@pytest.mark.parametrize("source", HOSTILE)
def test_hostile_templates_end_in_an_error(source):
    with pytest.raises(PackageError, match="the chat template fails"):
        render(source)


@pytest.mark.parametrize("source", ["{% if %}", "{{", "{% nonsense %}"])
def test_what_is_no_template(source):
    with pytest.raises(PackageError, match="the chat template is damaged"):
        render(source)


@pytest.fixture
def package(tiny_package, tmp_path):
    return shutil.copytree(tiny_package, tmp_path / "package")


def put(folder, name, text):
    (folder / name).write_text(text)
    write_manifest(folder, json.loads((folder / "package.json").read_text()))


def test_a_package_without_a_template(package):
    with pytest.raises(UsageError, match="has no chat template") as error:
        ChatTemplate.load(package)
    assert "mobilequant generate" in error.value.remedy


@pytest.mark.parametrize(
    "entry", ["in settings", [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "in settings"}]]
)
def test_the_file_comes_before_the_settings(package, entry):
    put(package, "tokenizer_config.json", json.dumps({"chat_template": entry, "eos_token": {"content": "<eos>"}}))
    assert ChatTemplate.load(package).render(SAID) == "in settings"
    put(package, module.FILE, "{{ eos_token }}")
    assert ChatTemplate.load(package).render(SAID) == "<eos>"


def test_a_template_that_was_changed_later_is_not_run(package):
    put(package, module.FILE, "one")
    (package / module.FILE).write_text("two")
    with pytest.raises(PackageError, match="was changed"):
        ChatTemplate.load(package)
    (package / module.FILE).write_bytes(b"\xff")
    write_manifest(package, json.loads((package / "package.json").read_text()))
    with pytest.raises(PackageError, match="utf-8"):
        ChatTemplate.load(package)
