"""Conversations: only what is new is read, what does not fit is told, and nothing is lost."""

import json
import shutil

import numpy as np
import pytest

from mobilequant.engine.engine import Engine, Session
from mobilequant.engine.sampler import Sampling
from mobilequant.errors import UsageError
from mobilequant.integer.package import write_manifest
from mobilequant.jobs.chat import ContextFullError, Conversation

TEMPLATE = "{% for m in messages %}<bos>{{ m.role[0] }}{{ m.content }}<eos>{% endfor %}<bos>a"
ONLY_THE_LAST = "<bos>{{ messages[-1].content }}<eos>"
GREEDY = Sampling(greedy=True)


def with_template(package, folder, template, **about):
    shutil.copytree(package, folder)
    (folder / "chat_template.jinja").write_text(template)
    write_manifest(folder, {**json.loads((folder / "package.json").read_text()), **about})
    return Engine.load(folder, threads=1)


@pytest.fixture
def engine(tiny_package, tmp_path):
    return with_template(tiny_package, tmp_path / "package", TEMPLATE)


@pytest.fixture
def fed(monkeypatch):
    """Every list of tokens that a session reads, as they come."""
    seen = []

    def run(self, tokens, *, only_last=False, real=Session.run):
        seen.append([int(token) for token in tokens])
        return real(self, tokens, only_last=only_last)

    monkeypatch.setattr(Session, "run", run)
    return seen


def test_the_second_turn_reads_only_what_is_new(engine, fed):
    conversation, encode = Conversation(engine, GREEDY, max_new_tokens=5), engine.vocabulary.encode_more
    first = "".join(conversation.answer("hi"))
    assert fed[0] == encode("<bos>uhi<eos><bos>a")
    answered = [token for part in fed[1:] for token in part]
    assert len(answered) == 4  # the fifth token is said, but not read yet
    fed.clear()
    "".join(conversation.answer("and?"))
    assert fed[0][1:] == encode("<eos><bos>uand?<eos><bos>a")
    assert engine.vocabulary.tokenizer.decode([*answered, fed[0][0]]) == first


def test_the_answer_is_that_of_all_tokens_read_at_once(engine, fed):
    conversation = Conversation(engine, GREEDY, max_new_tokens=5)
    for question in ("hi", "and?", "so"):
        list(conversation.answer(question))
    whole = [token for part in fed for token in part]
    fed.clear()
    logits = engine.session().run(whole)
    said = [int(row.argmax()) for row in logits[-5:]]
    assert said[:4] == whole[-4:]
    assert conversation.position == len(engine.prefix_tokens) + len(whole)


def test_a_template_that_rewrites_what_was_said_is_read_anew(tiny_package, tmp_path, fed):
    engine = with_template(tiny_package, tmp_path / "package", ONLY_THE_LAST)
    conversation = Conversation(engine, GREEDY, max_new_tokens=3)
    one = "".join(conversation.answer("hi"))
    "".join(conversation.answer("else"))
    assert "".join(conversation.answer("hi")) == one
    assert conversation.position == len(engine.prefix_tokens) + len(engine.vocabulary.encode("<bos>hi<eos>")) + 2


def test_what_a_template_left_as_it_was_is_not_read_again(tiny_package, tmp_path, fed):
    """Answers are cut to their first letter in all turns but the last, as models do that forget how they thought."""
    shortened = "{% for m in messages %}<bos>{{ m.content if m.role == 'user' else m.content[:1] }}<eos>{% endfor %}"
    engine = with_template(tiny_package, tmp_path / "package", shortened)
    conversation = Conversation(engine, GREEDY, max_new_tokens=9)
    first = "".join(conversation.answer("once"))
    fed.clear()
    second = "".join(conversation.answer("and?"))
    new = engine.vocabulary.encode(f"<bos>once<eos><bos>{first[:1]}<eos><bos>and?<eos>")
    kept = len(new) - len(fed[0])
    assert kept >= len(engine.vocabulary.encode("<bos>once<eos>"))
    assert fed[0] == new[kept:]
    other = Conversation(engine, GREEDY, max_new_tokens=9)
    other._messages = [{"role": "user", "content": "once"}, {"role": "assistant", "content": first}]
    assert "".join(other.answer("and?")) == second


def test_the_repetition_penalty_sees_earlier_turns(engine, monkeypatch):
    from mobilequant.engine.sampler import Sampler

    seen = []

    def choose(self, logits, before, real=Sampler.choose):
        seen.append(list(before))
        return real(self, logits, before)

    monkeypatch.setattr(Sampler, "choose", choose)
    conversation = Conversation(engine, GREEDY, max_new_tokens=3)
    for question in ("hi", "and?"):
        list(conversation.answer(question))
    assert seen[3][: len(seen[2])] == seen[2]
    assert len(seen[3]) > len(seen[2]) + len("and?")


def test_words_of_the_system_stay_through_a_reset(engine, fed):
    conversation = Conversation(engine, GREEDY, system="be", max_new_tokens=2)
    list(conversation.answer("hi"))
    opening = fed[0]
    conversation.reset()
    fed.clear()
    list(conversation.answer("hi"))
    assert fed[0] == opening == engine.vocabulary.encode_more("<bos>sbe<eos><bos>uhi<eos><bos>a")


def test_an_answer_that_is_left_early_counts_as_far_as_it_went(engine, fed):
    conversation = Conversation(engine, GREEDY, max_new_tokens=50)
    answer = conversation.answer("hi")
    said = next(answer)
    answer.close()
    fed.clear()
    list(conversation.answer("and?"))
    assert engine.vocabulary.tokenizer.decode(fed[0]).endswith("uand?a")
    assert engine.vocabulary.tokenizer.decode(fed[0][:-8]).startswith(said)


def test_a_full_context_is_told_and_a_reset_helps(engine):
    conversation = Conversation(engine, GREEDY, max_new_tokens=1000, context=30)
    answer = "".join(conversation.answer("hi"))
    assert answer
    assert conversation.room <= 0
    position = conversation.position
    with pytest.raises(ContextFullError, match="the context is full") as error:
        conversation.answer("and?")
    assert "/new" in error.value.remedy
    assert conversation.position == position
    conversation.reset()
    assert "".join(conversation.answer("hi")) == answer


def test_a_question_longer_than_the_context(engine):
    with pytest.raises(ContextFullError):
        Conversation(engine, GREEDY, context=20).answer("a" * 20)


def test_a_leading_token_that_the_template_spells_is_not_read_twice(tiny_package, tmp_path, fed):
    engine = with_template(tiny_package, tmp_path / "package", TEMPLATE, leading_token=256)
    list(Conversation(engine, GREEDY, max_new_tokens=1).answer("hi"))
    assert fed[0].count(256) == 2


def test_what_cannot_be_asked(engine):
    conversation = Conversation(engine, GREEDY)
    with pytest.raises(UsageError, match="no valid Unicode"):
        conversation.answer("a\udcff")
    with pytest.raises(UsageError, match="new tokens"):
        Conversation(engine, GREEDY, max_new_tokens=0)
    with pytest.raises(UsageError, match="room"):
        Conversation(engine, GREEDY, context=0)
    assert np.isfinite(conversation.room)
