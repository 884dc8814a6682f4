from mobilequant.cli import output

HOSTILE = "a\x1b]0;owned\x07\x9b2J\rb\x7f"


def test_what_strangers_say_cannot_steer_the_terminal(capsys):
    output.write_text(HOSTILE + "\n\tc")
    output.write_facts("title", {"model": HOSTILE})
    output.write_table("title", ["one"], [[HOSTILE]])
    said = capsys.readouterr().out
    assert "\n\tc" in said
    assert said.count("a\ufffd]0;owned\ufffd\ufffd2J\ufffdb\ufffd") == 3
    assert not {"\x1b", "\x07", "\x9b", "\r", "\x7f"} & set(said)
