"""What the documents tell people to type is typed here.

Every ```bash block of README.md, CONTRIBUTING.md and docs/*.md is run, in order, in a copy of the checkout, unless the
line above it says why not: <!-- not run: it needs a cluster -->. `make` commands are not run from here (this test runs
under `make`); a table says where each is.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from launch.cli import COMMANDS
from shards.core import cli
from support import ROOT
from support.documents import BLOCK_TIMEOUT, Block, blocks, blocks_of, missing_lines, run, run_all
from support.launching import copy_of_the_checkout
from trainer.config import Config

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# `make TARGET` -> the file that runs it, or does the same, and the words by which to find it there.
MAKE_IS_RUN_BY = {
    "environment": (".ci/run", "stage make environment"),
    "test": (".ci/run", "stage make test\n"),
    "test-long": (".ci/run", "stage make test-long"),
    "test-all": ("tests/contracts/test_documents.py", 'what_make_runs("test-all")'),
    "check": (".ci/run", "stage make check"),
    "docs": (".ci/run", "stage make docs"),
    "demo": ("tests/contracts/test_documents.py", "def test_make_demo_on_a_small_scale"),
    "bench": ("tests/integration/test_benchmarks.py", "def test_article_step"),
    "gpu-check": ("tests/integration/test_benchmarks.py", "def test_gpu_check_is_rehearsed_on_the_cpu"),
    "chaos": ("tests/contracts/test_documents.py", 'what_make_runs("chaos"'),
    "help": ("tests/contracts/test_documents.py", "def test_make_help"),
}

ALL_BLOCKS = [block for path in DOCUMENTS for block in blocks_of(path)]
# Documents whose blocks another test runs, and looks at what they leave behind: file -> where, and by which words.
RUN_ELSEWHERE = {"tutorial.md": ("tests/integration/test_tutorial.py", "run_all(")}
existing = pytest.mark.parametrize("document", [p for p in DOCUMENTS if p.exists()], ids=lambda p: p.name)
each_block = pytest.mark.parametrize("block", ALL_BLOCKS, ids=lambda b: f"{b.document}:{b.line}")


# ---------------------------------------------------------------- running them


@pytest.mark.long
@pytest.mark.timeout(3 * BLOCK_TIMEOUT)
@pytest.mark.parametrize("document", [p for p in DOCUMENTS if p.name not in RUN_ELSEWHERE], ids=lambda p: p.name)
def test_every_block_runs(document: Path, tmp_path: Path) -> None:
    if not any(b.not_run is None and b.script.strip() for b in blocks_of(document)):
        pytest.skip("it has no block to run")
    run_all(document, copy_of_the_checkout(tmp_path))


# ---------------------------------------------------------------- reading them


@each_block
def test_a_block_is_shell_and_a_reason_is_a_reason(block: Block) -> None:
    checked = subprocess.run(["bash", "-n", "-c", block.code], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert block.not_run is None or len(block.not_run.split()) >= 3, "say why it is not run"


@each_block
def test_no_block_installs_into_this_environment(block: Block) -> None:
    """A copy of the checkout that installs itself here would stay installed after it is gone."""
    installs = re.search(r"\bpip3? .*\binstall\b", block.code)
    assert block.not_run or not installs, "mark it as not run, or tell of `make environment` instead"


@each_block
def test_make_commands_are_run_somewhere(block: Block) -> None:
    for target in block.make_targets:
        assert target in MAKE_IS_RUN_BY, f"`make {target}`: say in MAKE_IS_RUN_BY what runs it"


def test_the_places_that_run_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target, (file, words) in MAKE_IS_RUN_BY.items():
        assert re.search(rf"(?m)^{target}:", makefile), target
        assert words in (ROOT / file).read_text(encoding="utf-8"), f"{file} does not run `make {target}`"


def test_the_places_that_run_documents_exist() -> None:
    for name, (file, words) in RUN_ELSEWHERE.items():
        assert (ROOT / "docs" / name).exists() and words in (ROOT / file).read_text(encoding="utf-8"), name


def training_options(commands: list[str]) -> Iterator[list[str]]:
    """The trainer's words in commands that start it."""
    for command in commands:
        words = shlex.split(command, comments=True)
        submits = ("cgan slurm" in command or "launch slurm" in command) and "--array" not in words
        for entry in ("trainer/main.py", "launch/slurm/train.sbatch", *(["--"] if submits else [])):
            if entry in words:
                rest = words[words.index(entry) + 1 :]
                ends = [i for i, word in enumerate(rest) if re.fullmatch(r"[|&;>]+|\d?>.*|…|\.\.\.", word)]
                yield rest[: ends[0]] if ends else rest


@each_block
def test_shown_training_options_exist(block: Block) -> None:
    """Also where the command is not run: an option that was renamed must not live on in a document."""
    for words in training_options(block.commands):
        if not cli.wants_help(words) and "--version" not in words:
            taken = cli.raw_values(Config, words, also=("config",))
            for name, value in taken.items():
                if name != "config":
                    cli.coerce(Config, name, value)


@existing
def test_links_lead_somewhere(document: Path) -> None:
    prose = re.sub(r"(?ms)^\s*```.*?^\s*```", "", document.read_text(encoding="utf-8"))
    targets = [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match(r"[a-z]+:", t)]
    broken = [t for t in targets if t and not (document.parent / t).exists()]
    assert not broken


def test_the_readme_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [name for name in COMMANDS if not re.search(rf"(?:`|\bcgan ){name}\b", readme)]
    assert not missing, f"add them to the table of commands: {missing}"


def test_what_a_block_leaves_running_is_ended(tmp_path: Path) -> None:
    done = run("sleep 300 > sleep.log 2>&1 & echo $!; exit 3", tmp_path)
    assert done.returncode == 3
    with contextlib.suppress(psutil.NoSuchProcess):  # killed, and perhaps not yet collected
        psutil.Process(int(done.stdout)).wait(10)


# ---------------------------------------------------------------- make


def what_make_runs(*words: str) -> str:
    """What `make` would type, were the environment there, whatever `make test` itself was given."""
    command = ["make", "-n", "-o", ".venv/installed", *words]
    given = {name: value for name, value in os.environ.items() if name not in ("ARGS", "MAKEFLAGS", "MAKEOVERRIDES")}
    return subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=True).stdout.strip()


def test_make_help() -> None:
    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in MAKE_IS_RUN_BY:
        assert re.search(rf"make {target} +\w", text), f"`make` does not tell of {target}"


def test_make_runs_what_it_says() -> None:
    assert (
        what_make_runs("test")
        == ".venv/bin/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder"
    )
    assert what_make_runs("demo") == ".venv/bin/python -m trainer demo"
    assert '-m "long and not exhaustive and not chaos"' in what_make_runs("test-long")
    assert '-m "not chaos"' in what_make_runs("test-all")
    assert what_make_runs("chaos", "ARGS=--chaos-seed 1").endswith("-m chaos tests/system/test_chaos.py --chaos-seed 1")
    bench = what_make_runs("bench")
    assert "benchmarks/step.py" in bench
    assert not re.search(r"other_|_run\.py|time_to_quality", bench), "these train for minutes, or need a run"


@pytest.mark.long
def test_make_demo_on_a_small_scale(tmp_path: Path) -> None:
    checkout = copy_of_the_checkout(tmp_path)
    script = what_make_runs("demo", "ARGS=--count 192 --total-images 640")
    done = run(script, checkout)
    assert done.returncode == 0, done.stdout[-6000:]
    assert (checkout / "demo" / "run" / "report.html").stat().st_size > 1000
    assert (checkout / "demo" / "run" / "hair-colours.png").stat().st_size > 1000
    assert (checkout / "demo" / "run" / "playground.html").stat().st_size > 100_000
    again = run(script, checkout)
    assert again.returncode == 0, again.stdout[-6000:]
    assert "shards faces" not in again.stdout, "a second run draws everything anew"


# ---------------------------------------------------------------- the checker itself

EXAMPLE = """
# Title
```bash
one --flag \\
  value   # a comment
make test ARGS=-x
```
~~~python
not shell
~~~
<!-- not run: needs eight GPUs -->

```sh
two
```
"""


def test_blocks_are_found() -> None:
    first, second = blocks("x.md", EXAMPLE)
    assert (first.line, first.not_run, first.make_targets) == (3, None, ["test"])
    assert first.commands[0].split("#")[0].split() == ["one", "--flag", "value"]
    assert "make" not in first.script
    assert (second.code, second.not_run) == ("two", "needs eight GPUs")
    assert next(blocks("x.md", "```bash\nls\n```\nprints\n```text\na  1\n```")).shown == "a  1"
    with pytest.raises(AssertionError, match="never closed"):
        list(blocks("x.md", "```bash\nls"))


def test_a_failing_block_fails(tmp_path: Path) -> None:
    assert run("false\ntrue", tmp_path).returncode == 1
    assert run("false | cat", tmp_path).returncode == 1
    assert run("python -c 'import sys; print(sys.prefix)'", tmp_path).stdout.strip() == sys.prefix


def test_lines_that_are_not_printed_are_found() -> None:
    printed = "packed 6,000 images\n  of  32 pixels\nlabels: red 1, blue 2\ndone"
    assert not missing_lines("packed 12 images\n…\nlabels: red …\n\ndone", printed)
    assert missing_lines("packed 12 files\ndone", printed) == ["packed 12 files", "done"]
    assert missing_lines("done\npacked 1 images", printed) == ["packed 1 images"]


def test_training_options_are_found() -> None:
    line = "ACCELERATE_USE_CPU=true accelerate launch --num_processes 2 trainer/main.py --batch 8 > log.txt"
    assert list(training_options([line])) == [["--batch", "8"]]
    assert list(training_options(["sbatch --nodes=2 launch/slurm/train.sbatch --seed 1"])) == [["--seed", "1"]]
    assert list(training_options(["python -m launch slurm --nodes 2 -- --seed 1 > job"])) == [["--seed", "1"]]
