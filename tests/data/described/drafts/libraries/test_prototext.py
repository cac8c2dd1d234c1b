"""The text form of protocol buffers, without their messages."""

import pytest

from clickscale.data.described.drafts.libraries.prototext import parse_prototext
from clickscale.errors import ConfigError


def test_messages_lists_and_texts():
    text = """
    a: 1.5  # a remark
    a: [2, 3]
    name: "x\\x03y" 'z\\n'
    inner { kind: ADAM, deep < flag: true >; }
    inner: { }
    """
    assert parse_prototext(text, "f") == {
        "a": ["1.5", "2", "3"],
        "name": ["x\x03yz\n"],
        "inner": [{"kind": ["ADAM"], "deep": [{"flag": ["true"]}]}, {}],
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a {\n b: 1", "f: the text ends inside of a message"),
        ("a: 1 }", "f:1: '}' stands where"),
        ("a:\n: 2", "f:2: ':' stands where"),
        ('a: "open', "f:1: cannot read"),
        ("a {" * 60 + "}" * 60, "f:1: 'a' stands where"),
    ],
)
def test_a_broken_text_is_refused_with_its_line(text, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse_prototext(text, "f")
