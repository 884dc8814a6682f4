import pytest

from mobilequant.data import task
from mobilequant.data.task import load_task
from mobilequant.errors import UsageError


def row(doc_id, idx, context, continuation, label):
    return {
        "doc_id": doc_id,
        "idx": idx,
        "label": label,
        "request": {"context": context, "continuation": continuation},
    }


def test_choices_of_a_document_become_one_request(monkeypatch):
    rows = [
        row(0, 1, "Q: b", " no", 1),
        row(0, 0, "Q: a", " yes", 1),
        row(1, 0, "He", " said", ["said"]),
        row(1_000_000, 0, "Answer:", " yes", 1),
    ]
    monkeypatch.setattr(task, "request_rows", lambda _variant: iter(rows))
    first, second = load_task("winogrande")
    assert first == task.Request(0, ("Q: a", "Q: b"), (" yes", " no"), 1)
    assert second == task.Request(1, ("He",), (" said",), 0)
    assert first.contexts[0] == "Q: a"


def test_unknown_task_lists_the_known():
    with pytest.raises(UsageError, match="no task 'boolq'") as caught:
        load_task("boolq")
    assert "hellaswag" in caught.value.remedy


@pytest.mark.model
@pytest.mark.parametrize(("name", "documents"), [("piqa", 1838), ("arc_easy", 570), ("winogrande", 1267)])
def test_real_tasks(name, documents):
    requests = load_task(name)
    assert len(requests) == documents
    assert all(0 <= request.label < len(request.continuations) == len(request.contexts) for request in requests)
    same_context = all(len(set(request.contexts)) == 1 for request in requests)
    assert same_context == (name != "winogrande")
