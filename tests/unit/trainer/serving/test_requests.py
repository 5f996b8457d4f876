"""Bodies, Accept headers, Host headers and tokens: what is taken, and what is refused with which code."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from support.errors import raises
from trainer.serving.access_token import VARIABLE, is_authorized, read_token
from trainer.serving.address import HostNames, bind, is_loopback, listen, require_name
from trainer.serving.problems import Problem
from trainer.serving.sample_request import (
    JSON,
    MAX_COUNT,
    MAX_SEED,
    MAX_WORDS,
    PNG,
    SampleRequest,
    choose_answer,
    parse,
)

TOKEN = "correct-horse-battery"


def test_body_becomes_a_request() -> None:
    assert parse(b'{"words": "blue hair"}') == SampleRequest("blue hair", 1, 0)
    full = {"words": "é" * MAX_WORDS, "count": MAX_COUNT, "seed": MAX_SEED}
    assert parse(json.dumps(full).encode()) == SampleRequest(**full)
    four = parse(b'{"words": "x", "count": 4.0}').count
    assert four == 4 and isinstance(four, int)


@pytest.mark.parametrize(
    ("body", "status", "code", "named"),
    [
        (b"", 400, "invalid-json", "body"),
        (b"{", 400, "invalid-json", "body"),
        (b"\xff\xfe\x00", 400, "invalid-json", "body"),
        (b"[" * 9000, 400, "invalid-json", "nested"),
        (b'{"words": ' + b"9" * 5000 + b"}", 400, "invalid-json", "digits"),
        (b"null", 422, "invalid-value", "object"),
        (b'"words"', 422, "invalid-value", "object"),
        (b"{}", 422, "missing-field", "words"),
        (b'{"words": "x", "sed": 1}', 422, "unknown-field", "seed"),
        (b'{"words": "x", "\\ud800": 1}', 422, "unknown-field", "count"),
        (b'{"words": "x", "": 1}', 422, "unknown-field", "''"),
        (b'{"words": null}', 422, "invalid-value", "null"),
        (b'{"words": ["x"]}', 422, "invalid-value", "array"),
        (b'{"words": "\\ud800"}', 422, "invalid-value", "surrogate"),
        (b'{"words": "' + b"x" * (MAX_WORDS + 1) + b'"}', 422, "invalid-value", str(MAX_WORDS)),
        (b'{"words": "x", "count": 0}', 422, "invalid-value", "count"),
        (b'{"words": "x", "count": 65}', 422, "invalid-value", "64"),
        (b'{"words": "x", "count": true}', 422, "invalid-value", "True"),
        (b'{"words": "x", "count": "4"}', 422, "invalid-value", "count"),
        (b'{"words": "x", "count": 1.5}', 422, "invalid-value", "1.5"),
        (b'{"words": "x", "count": NaN}', 422, "invalid-value", "nan"),
        (b'{"words": "x", "count": Infinity}', 422, "invalid-value", "inf"),
        (b'{"words": "x", "seed": -1}', 422, "invalid-value", "seed"),
        (b'{"words": "x", "seed": 1e300}', 422, "invalid-value", "seed"),
        (b'{"words": "x", "seed": 9007199254740992}', 422, "invalid-value", "seed"),
    ],
)
def test_body_is_refused(body: bytes, status: int, code: str, named: str) -> None:
    with raises(code, named, kind=Problem) as caught:
        parse(body)
    assert isinstance(caught.value, Problem) and caught.value.http_status == status
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, PNG),
        ("", PNG),
        ("*/*", PNG),
        ("image/*", PNG),
        ("application/json", JSON),
        ("Application/JSON; q=0.5, image/png;q=0.4", JSON),
        ("application/json, image/png", PNG),
        ("image/png;q=0, */*", JSON),
        ("text/html, application/*;q=0.1", JSON),
    ],
)
def test_accept_header_chooses(accept: str | None, kind: str) -> None:
    assert choose_answer(accept) == kind


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=0, application/json;q=0", "image/png;q=nonsense", ",;,"])
def test_accept_header_of_neither_is_refused(accept: str) -> None:
    if accept == ",;,":
        accept = "image/webp,;,"
    with raises("not-acceptable", PNG, JSON, kind=Problem):
        choose_answer(accept)


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST.:8000", True),
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("192.168.1.7", True),
        ("gpu-box:80", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost:8000@evil.example", False),
        ("", False),
        ("[::1", False),
        ("localhost:", False),
        ("127.1", False),
    ],
)
def test_host_header(header: str, allowed: bool) -> None:
    assert HostNames(("gpu-box",)).allows(header) is allowed


@pytest.mark.parametrize("name", ["gpu-box:8000", "http://gpu-box", "gpu-box/", "", "*.example", "[::1]"])
def test_name_that_no_request_has_is_refused(name: str) -> None:
    with raises("invalid-value", "--allow-host", "a name alone"):
        require_name(name)
    for fine in ("gpu-box", "gpu_box.example.", "::1", "0.0.0.0"):
        require_name(fine)


def test_loopback_is_told_from_what_others_reach() -> None:
    assert is_loopback("127.0.0.1") and is_loopback("localhost") and is_loopback("127.9.9.9")
    assert not is_loopback("0.0.0.0")
    for host in ("", "no-such-host.invalid", "a" * 300):
        with raises("invalid-value", "--host"):
            is_loopback(host)


def test_port_in_use_is_told() -> None:
    with bind("127.0.0.1", 0) as taken:
        listen(taken, "127.0.0.1")
        port = taken.getsockname()[1]
        with raises("port-in-use", port, "--port"):
            bind("127.0.0.1", port)
    with bind("127.0.0.1", 0) as first, bind("127.0.0.1", first.getsockname()[1]) as second:  # neither listens yet
        listen(first, "127.0.0.1")
        with raises("port-in-use", "--port"):
            listen(second, "127.0.0.1")


def test_token_is_read_and_never_quoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    assert read_token(file, {}) == TOKEN
    assert read_token(None, {VARIABLE: TOKEN}) == TOKEN
    assert read_token(None, {}) is None
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    assert read_token(file, {}) == TOKEN
    told = capsys.readouterr().err
    assert "[token-readable]" in told and TOKEN not in told
    file.write_bytes(b"short\n")
    for wrong, code in (
        (file, "invalid-token"),
        (tmp_path / TOKEN, "token-unreadable"),
        (tmp_path, "token-unreadable"),
        ("", "token-unreadable"),
        ("~no-such-user/token", "token-unreadable"),
    ):
        with raises(code) as caught:
            read_token(wrong, {})
        assert TOKEN not in str(caught.value) and "short" not in str(caught.value)
    for invalid in ("", "two words of a token"):
        with raises("invalid-token", VARIABLE):
            read_token(None, {VARIABLE: invalid})


def test_authorization_header() -> None:
    def basic(text: str) -> str:
        return f"Basic {base64.b64encode(text.encode()).decode()}"

    for right in (f"Bearer {TOKEN}", f"bearer  {TOKEN} ", basic(f"anyone:{TOKEN}"), basic(f":{TOKEN}")):
        assert is_authorized(TOKEN, right), right
    for wrong in ("", TOKEN, "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Token {TOKEN}", basic(TOKEN)):
        assert not is_authorized(TOKEN, wrong), wrong
    for garbage in ("Basic !", "Basic //8=", "Bearer \xff\xfe", "Basic " + "A" * 99):
        assert not is_authorized(TOKEN, garbage), garbage
