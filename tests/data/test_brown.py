import hashlib
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
        ("``/`` Why/wrb ''/'' ?/. ?/.", '"Why"??'),
        ("First/od ;/. ;/. then/rb :/: this/dt", "First;; then: this"),
        ("(/( 1-1/2/cd of/in Smith's/np$ )/) --/-- 5''/nn wide/jj !/. !/.", "(1-1/2 of Smith's) -- 5\" wide!!"),
    ],
)
def test_punctuation_goes_back_to_its_words(tagged, text):
    assert brown.prose(tagged) == text


def test_a_sentence_a_line_and_no_mark_alone_at_its_beginning():
    tagged = "\n\n\tOne/cd ./.\nTwo/cd said/vbd ``/`` it/ppo\n''/''\n\n\n\tThree/cd ./. \n\n"
    assert brown.prose(tagged) == 'One.\nTwo said "it"\nThree.'


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
    assert text.sha256 == "e005f05946d8b12600ba1a2d6e9b1c45db63a28e5fa96fb4b31c9df0a510b10d"
    assert (len(text.content.encode()), len(text.parts)) == (5_965_648, 500)
    # What the published code was measured on: its first 400,000 characters.
    first = hashlib.sha256(text.content[:400_000].encode()).hexdigest()
    assert first == "0872efe00cdcc12f2ea6daf7b957f66916971c3f83508cd3487fdc4ca5913024"
