import io
import tarfile

import pytest

from mobilequant.data import brown
from mobilequant.data.text import load_text


@pytest.mark.parametrize(
    ("tagged", "text"),
    [
        ("The/at jury/nn said/vbd ./.", "The jury said."),
        ("``/`` No/rb ''/'' ,/, he/pps said/vbd ./.", '"No", he said.'),
        ("Why/wrb ?/. ?/.", "Why?"),
        ("``/`` Why/wrb ''/'' ?/. ?/.", '"Why"?'),
        ("First/od ;/. ;/. then/rb :/: this/dt", "First; then: this"),
        ("(/( 1-1/2/cd of/in Smith's/np$ )/) --/-- 5''/nn wide/jj !/. !/.", "(1-1/2 of Smith's) -- 5\" wide!"),
        ("in/in 3.5/cd .22/cd rifles/nns", "in 3.5 .22 rifles"),
    ],
)
def test_punctuation_goes_back_to_its_words(tagged, text):
    assert brown.prose(tagged) == text


def test_a_tab_begins_a_paragraph_and_a_line_is_a_sentence():
    tagged = "\n\n\tOne/cd ./.\nTwo/cd said/vbd ``/`` it/ppo\n''/''\n\n\n\tThree/cd ./. \n\n"
    assert brown.prose(tagged) == 'One. Two said "it"\n\nThree.'


def test_samples_come_in_the_order_of_their_names(tmp_path, monkeypatch):
    path = tmp_path / "corpus.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("package/cb01", "package/ca02", "package/CONTENTS", "package/ca01"):
            content = f"{name[-4:]}/nn ./.".encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(brown, "fetch", lambda _pin: path)
    assert load_text("brown").parts == ("ca01.", "ca02.", "cb01.")


@pytest.mark.model
@pytest.mark.npm
def test_real_brown_is_the_recorded_text():
    text = load_text("brown")
    assert text.sha256 == "140b6e0edb6a3e28437890d33532ace9f79d0cfac8b91b9ce198d2c2aae9deb9"
    assert (len(text.content.encode()), len(text.parts)) == (5_973_499, 500)
