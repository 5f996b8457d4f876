"""Command lines are checked before anything runs, also for what fire would let pass."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.core import cli
from shards.core.cli import argument, option
from shards.core.errors import Failure, UserError, exit_status, warn
from support.errors import raises


@dataclass(frozen=True)
class Order:
    """Order something."""

    what: str = argument("the thing")
    extras: tuple[str, ...] = argument("what goes with it")
    count: int = option(1, "how many", minimum=1, maximum=99)
    price: float = option(1.5, "at most", above=0)
    gift: bool = option(False, "wrap it")
    size: str = option("m", "of the thing", choices=("s", "m", "l"))
    note: str | None = option(None, "to write on it")
    pair: tuple[float, float] = option((0.0, 1.0), "two numbers")
    where: Path = option(Path("here"), "to bring it")
    address: Path | None = option(None, "to send it")
    wish: str | None = option(None, "in words", literal=True)
    spices: tuple[str, ...] = option((), "what to add", choices=("mint", "sage"))


def parse(*words: str) -> Order:
    return cli.parse(Order, ["tea", "milk", *words], command="order")


def test_defaults_and_values() -> None:
    assert parse() == Order("tea", ("milk",))
    asked = parse("sugar", "--count", "3", "--price=2", "--gift", "--size", "l", "--note", "a, b", "--pair", "0.5,2")
    assert asked == Order("tea", ("milk", "sugar"), 3, 2.0, True, "l", "a, b", (0.5, 2.0))


@pytest.mark.parametrize("word", ["none", "null", "None", "no", "false"])
def test_a_path_and_a_wish_may_be_called_anything(word: str) -> None:
    asked = parse("--address", word, "--wish", word)
    assert asked.address == Path(word) and asked.wish == word
    assert parse("--note", "none").note is None, "other words are absent"
    assert cli.coerce(Order, "address", None) is None


@pytest.mark.parametrize("option", ["--address", "--wish", "--where"])
def test_an_empty_path_is_an_error(option: str) -> None:
    """It is the value of a shell's variable that is not set, and must not mean the default."""
    with raises("invalid-value", option, "''") as caught:
        parse(f"{option}=")
    assert "or none" not in str(caught.value)


@pytest.mark.parametrize("word", ["--gift=false", "--gift=no", "--no-gift", "--nogift", "--no_gift"])
def test_trap_a_flag_can_be_said_no_to(word: str) -> None:
    """Fire hands `--gift=false` on as the truthy string 'false'."""
    assert parse("--gift", word).gift is False


def test_trap_a_flag_does_not_swallow_the_next_word() -> None:
    assert parse("--gift", "sugar") == Order("tea", ("milk", "sugar"), gift=True)


def test_trap_text_stays_text() -> None:
    """Fire evaluates `1e5`, `a,b` and `None` as Python."""
    assert parse("--note", "1e5").note == "1e5"
    assert parse("--note", "[1, 2]").note == "[1, 2]"
    assert cli.parse(Order, ["007", "1,2"], command="order").what == "007"


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["--cuont", "3"], "unknown-option", "unknown option --cuont (command line); did you mean --count?"),
        (["--count"], "missing-value", "--count"),
        (["--count", "--gift"], "missing-value", "--count"),
        (["--count", "abc"], "invalid-value", "--count: 'abc' is not a whole number"),
        (["--count", "1.5"], "invalid-value", "--count: '1.5' is not a whole number"),
        (["--count", "0"], "invalid-value", "--count: 0 is too small, it must be at least 1"),
        (["--count", "100"], "invalid-value", "--count: 100 is too large, it must be at most 99"),
        (["--price", "nan"], "invalid-value", "--price: 'nan' is not a number"),
        (["--price", "0"], "invalid-value", "--price: 0.0 is too small, it must be above 0"),
        (["--gift=maybe"], "invalid-value", "--gift: 'maybe' is not true or false"),
        (["--size", "x"], "invalid-value", "--size: 'x' is not one of s, m, l"),
        (["--pair", "1"], "invalid-value", "--pair: '1' is not a list of 2 numbers"),
        (["--", "--count", "3"], "unexpected-argument", "'--'"),
        (["-c", "3"], "unknown-option", "'-c'"),
    ],
)
def test_trap_a_mistake_is_one_sentence_before_anything_runs(words: list[str], code: str, named: str) -> None:
    with raises(code, named) as caught:
        parse(*words)
    assert "\n" not in str(caught.value)


def test_missing_and_surplus_arguments() -> None:
    with raises("missing-argument", "EXTRAS"):
        cli.parse(Order, ["tea"], command="order")

    @dataclass(frozen=True)
    class One:
        what: str = argument("the thing")

    with raises("unexpected-argument", "'milk'"):
        cli.parse(One, ["tea", "milk"], command="one")


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.parse(Order, ["--nonsense", "--help"], command="order")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"--{name}" in shown for name in ("count", "price", "gift", "size", "note", "pair", "where"))
    assert "--size s|m|l " in shown and "--spices mint|sage,… " in shown and "--pair X,X,… " in shown


def test_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: UserError) -> Callable[[], None]:
        def command() -> None:
            raise error

        return command

    assert exit_status(fail(UserError("unknown-option", "not so"))) == 2
    assert capsys.readouterr().err == "error: not so [unknown-option]\n"
    assert exit_status(fail(Failure("disk-full", "no space"))) == 1
    assert capsys.readouterr().err == "error: no space [disk-full]\n"
    assert exit_status(lambda: None) == 0
    assert exit_status(lambda: Path("a" * 300).stat()) == 2
    long = f"error: {'a' * 300}: File name too long; check this path and its permissions [file-unreadable]\n"
    assert capsys.readouterr().err == long

    def read_a_broken_disk() -> None:
        raise OSError(errno.EIO, "Input/output error", "data/0.tar")

    assert exit_status(read_a_broken_disk) == 1
    assert capsys.readouterr().err == "error: data/0.tar: Input/output error [file-unreadable]\n"


def test_only_rank_0_reports_a_mistake_but_every_rank_its_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(kind: type[UserError], reported: bool = False) -> int:
        def command() -> None:
            error = kind("some-code", "a sentence")
            error.already_reported = reported
            raise error

        return exit_status(command)

    monkeypatch.setenv("RANK", "1")
    assert fail(UserError) == 2 and not capsys.readouterr().err
    assert fail(Failure) == 1 and capsys.readouterr().err == "error: rank 1: a sentence [some-code]\n"
    assert fail(Failure, reported=True) == 1 and not capsys.readouterr().err
    warn("some-code", "a warning")
    assert not capsys.readouterr().err
    monkeypatch.delenv("RANK")
    warn("some-code", "a warning")
    assert capsys.readouterr().err == "warning: a warning [some-code]\n"


def test_errors_keep_their_code_across_processes() -> None:
    error = Failure("disk-full", "no space")
    error.already_reported = True
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is Failure and (twin.code, str(twin), twin.already_reported) == ("disk-full", "no space", True)


def test_dispatch_knows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"pack": ("packs", "builtins:print")}
    cli.dispatch(commands, ["pack", "a", "b"], program="p", version="1")
    assert capsys.readouterr().out == "['a', 'b']\n"
    cli.dispatch(commands, ["--version"], program="p", version="1.2.3")
    assert capsys.readouterr().out == "1.2.3\n"
    with raises("unknown-command", "did you mean 'pack'"):
        cli.dispatch(commands, ["pakc"], program="p", version="1")


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_line_is_parsed_or_refused_in_one_sentence(words: list[str]) -> None:
    outcome = "parsed"
    try:
        cli.parse(Order, words, command="order")
    except UserError as error:
        outcome = str(error)
    except SystemExit:
        outcome = "help"
    assert outcome
    assert (outcome == "help") == cli.wants_help(words)


@given(st.integers(1, 99))
def test_whole_numbers_may_be_written_as_powers(count: int) -> None:
    assert parse("--count", f"{count}e0").count == count
