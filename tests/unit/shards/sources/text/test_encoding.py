"""The encoding of a text is told where that is possible, and asked for where it is not."""

from __future__ import annotations

import pytest

from shards.core.problems import Problems
from shards.sources.text.encoding import decode, detect
from support.errors import raises

LINES = {
    "gb18030": "黑色头发, 红色眼睛\n微笑\n连衣裙",
    "cp932": "青い髪, 赤い目\n笑顔\nツインテール",
    "euc_jp": "青い髪, 赤い目\n笑顔\nツインテール",
    "big5": "黑色長髮, 紅色眼睛\n微笑\n雙馬尾",
    "cp949": "파란 머리, 빨간 눈\n미소\n안경",
    "cp1252": "blaues Haar, grüne Augen\nLächeln\nGröße\ncafé",
    "cp1250": "włosy niebieskie\nżółty\nczerwone światło",
    "cp1251": "синие волосы, красные глаза\nулыбка",
}


@pytest.mark.parametrize("encoding", LINES)
def test_a_few_words_tell_their_encoding(encoding: str) -> None:
    decoded = decode(LINES[encoding].encode(encoding), "tags.csv")
    assert (decoded.text, decoded.encoding) == (LINES[encoding], encoding)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("青い", "cp932"),
        ("微笑", "gb18030"),
        ("初音ミク", "cp932"),
        ("微笑", "big5"),
        ("긴 머리", "cp949"),
        ("Lächeln", "cp1252"),
    ],
)
def test_one_word_is_enough_if_it_is_common_in_one_encoding_alone(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding), "image.txt").text == text


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
)
def test_unicode_is_read_with_and_without_a_byte_order_mark(encoding: str) -> None:
    text = 'id,tags\n1,"blue hair, 微笑"\n'
    assert decode(text.encode(encoding), "tags.csv").text == text


def test_text_other_than_utf8_is_counted() -> None:
    problems = Problems()
    decode("naïve".encode(), "a.csv", problems=problems)
    decode("红色头发, 微笑".encode("gbk"), "b.csv", problems=problems)
    assert problems.counts() == {"text-decoded gb18030": 1}


def test_unclear_text_names_line_candidates_and_option() -> None:
    with raises("encoding-unclear", "line 2", "--encoding", "cp1252", "cp1250"):
        decode("hair\noči modré".encode("cp1250"), "tags.csv")


def test_option_decides_and_must_fit() -> None:
    assert decode("oči".encode("cp1250"), "a.txt", "cp1250").text == "oči"
    with raises("encoding-mismatch", "a.txt, line 2", "--encoding"):
        decode(b"a\n\xff\xff", "a.txt", "utf-8")
    with raises("invalid-value", "klingon"):
        decode(b"a", "a.txt", "klingon")


def test_one_damaged_line_among_utf8_is_named() -> None:
    data = "微笑, 黑发\n".encode() * 20 + b"caf\xe9\n" + "微笑\n".encode()
    with raises("encoding-mixed", "line 21"):
        decode(data, "tags.csv")


@pytest.mark.parametrize("data", [b"SQLite format 3\x00\x10\x00\x01\x01\x00", b"id,tags\n1,a\x00b\n" * 9])
def test_binary_files_are_no_text(data: bytes) -> None:
    with raises("text-binary", "line"):
        decode(data, "tags.csv")


def test_many_short_texts_are_told_together() -> None:
    assert detect(["微笑".encode("gbk"), "红".encode("gbk"), "黑色".encode("gbk")]) == "gb18030"
    assert not detect([b"\xe9"])
