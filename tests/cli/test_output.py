import logging

from mobilequant.cli import output
from mobilequant.cli.log import configure
from mobilequant.cli.option import LogFormat

HOSTILE = "a\x1b]0;owned\x07\x9b2J\rb\x7f"


def test_what_strangers_say_cannot_steer_the_terminal(capsys):
    output.write_text(HOSTILE + "\n\tc")
    output.write_facts("title", {"model": HOSTILE})
    output.write_table("title", ["one"], [[HOSTILE]])
    output.tell(HOSTILE)
    configure(LogFormat.RICH)
    logging.getLogger("mobilequant").warning(HOSTILE)
    printed = capsys.readouterr()
    said = printed.out + printed.err
    assert "\n\tc" in said
    assert said.count("a\ufffd]0;owned\ufffd\ufffd2J\ufffdb\ufffd") == 5
    assert not {"\x1b", "\x07", "\x9b", "\r", "\x7f"} & set(said)
