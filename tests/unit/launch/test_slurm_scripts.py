"""`cgan slurm` without a cluster: the jobs that it refuses, the scripts that it writes, and that it needs no torch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.slurm import filesystems, script
from launch.slurm.options import Job, seconds
from launch.slurm.submit import main
from shards.dataset.manifest import MANIFEST
from support.errors import codes, raises
from support.launching import copy_of_the_checkout

TRAIN = ["--", "--preset", "smoke"]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / MANIFEST).touch()
    return tmp_path


def written(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    main(["--storage", "trust", *words])
    return capsys.readouterr().out


# ---------------------------------------------------------------- refused jobs


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        ([], "missing-argument", "`--`"),
        (["--node", "2", *TRAIN], "unknown-option", "--nodes"),
        (["--nodes", "0", *TRAIN], "invalid-value", "--nodes: 0"),
        (["--time", "soon", *TRAIN], "invalid-value", "--time 'soon'"),
        (["--time", "2", *TRAIN], "option-conflict", "--warn 120"),
        (["--partition", "a b", *TRAIN], "invalid-value", "--partition: 'a b'"),
        (["--account", "x;reboot", *TRAIN], "invalid-value", "--account: 'x;reboot'"),
        (["--name", "x\n#SBATCH --nodes=99", *TRAIN], "invalid-value", "--name: 'x\\n#SBATCH"),
        (["--mem", "much", *TRAIN], "invalid-value", "like 64G"),
        (["--mail", "ada", *TRAIN], "invalid-value", "like ada@example.org"),
        (["--logs", "a\nb", *TRAIN], "invalid-value", "--logs"),
        (["--logs", "a\\b", *TRAIN], "invalid-value", "--logs"),
        (["--setup", "if", *TRAIN], "invalid-shell", "--setup"),
        (["--setup", "module load \\", *TRAIN], "invalid-shell", "--setup 'module load"),
        (["--setup", "cat <<END", *TRAIN], "invalid-shell", "--setup 'cat <<END'"),
        (["--sbatch", "nodes=3", *TRAIN], "option-conflict", "use --nodes"),
        (["--sbatch", "mail=x", *TRAIN], "option-conflict", "use --mail"),
        (["--sbatch", "wrap=x", *TRAIN], "option-conflict", "--sbatch wrap"),
        (["--sbatch", "comment='a", *TRAIN], "invalid-value", "--sbatch"),
        (["--sbatch", "'comment=a\nreboot'", *TRAIN], "invalid-value", "--sbatch: 'comment=a"),
        (["--sbatch", "$(reboot)", *TRAIN], "invalid-value", "--sbatch: '$(reboot)'"),
        (["--processes-per-node", "2", *TRAIN], "option-conflict", "--gpus-per-node 0"),
        (["--python", "/no/python", *TRAIN], "interpreter-missing", "--python /no/python"),
        (["--", "--prest", "smoke"], "unknown-option", "--preset"),
        (["--", "--preset", "faces64"], "option-missing", "--shards"),
        (["--", "--preset", "faces64", "--shards", "no/where"], "dataset-missing", "--shards no/where"),
        (["--", "--preset", "smoke", "--init-from", "no/run"], "run-missing", "--init-from no/run"),
        (["--nodes", "3", *TRAIN], "batch-not-divisible", "--batch 16"),
        (["--", "--help"], "unexpected-argument", "--help"),
        (["--array", "2", "--nodes", "2", "--", "data", "out"], "option-without-effect", "--nodes"),
        (["--array", "2", "--", "data", "out", "--sise", "3"], "unknown-option", "--size"),
        (["--array", "2", "--", "--size", "32", "data", "out"], "unexpected-argument", "SRC and OUT"),
        (["--array", "2", "--", "data", "out", "--part", "1/2"], "option-conflict", "--part"),
        (["--array", "2", "--", "nothing", "out"], "source-missing", "nothing"),
        (["--submit", *TRAIN], "sbatch-missing", "--submit"),
    ],
)
def test_invalid_jobs_are_refused_and_nothing_is_written(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: str, named: str
) -> None:
    monkeypatch.setenv("PATH", str(Path(shutil.which("bash") or "").parent) if "--setup" in words else "/nowhere")
    with raises(code, named) as caught:
        main(["--storage", "trust", *words])
    assert "\n" not in str(caught.value)
    assert [path.name for path in elsewhere.iterdir()] == ["data"], "something was written"


def test_invalid_options_exit_with_status_2_and_torch_is_not_imported(tmp_path: Path) -> None:
    code = """
import sys
from launch import __main__ as launch
sys.argv[1:] = ["slurm", "--storage", "trust", *sys.argv[1:]]
status = launch.main()
assert not {"torch", "accelerate"} & set(sys.modules), "torch was imported"
sys.exit(status)
"""
    for words, status in ([TRAIN, 0], [["--array", "2", "--", ".", "out"], 0], [["--prtition", "x", *TRAIN], 2]):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert codes(done.stderr) == (["unknown-option"] if status else [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 5400), ("1:30", 90), ("24:00:00", 86400), ("2-0", 172800), ("1-02:03", 93780), ("1-02:03:04", 93784)],
)
def test_time_limits_in_seconds(text: str, expected: int) -> None:
    assert seconds(text) == expected


# ---------------------------------------------------------------- scripts


def directives(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^#SBATCH --([a-z-]+)=?(.*)$", text))


@pytest.mark.parametrize("words", [["--", "--preset", "smoke"], ["--array", "4", "--", "data", "out"]])
def test_below_the_mark_a_job_is_the_script_of_the_repository(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    text = written(capsys, *words)
    original = (script.FOLDER / ("pack.sbatch" if "--array" in words else "train.sbatch")).read_text()
    mark = "# ---- every job ----\n"
    assert text.split(mark)[1:] == original.split(mark)[1:]
    assert text.split("# ---- this job")[0] == original.split("# ---- this job")[0]
    theirs, ours = directives(original), directives(text)
    assert theirs.keys() - ours.keys() <= {"gres"}, "the command omits a line of the script"


def test_options_become_directives(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--nodes 2 --gpus-per-node 8 --time 24:00:00 --partition big --account art --qos high --constraint a100&ib"
    )
    options += " --mem 0 --cpus 6 --warn 180 --mail ada@example.org --name faces"
    text = written(capsys, *options.split(), "--sbatch", "exclusive exclude=n[1-3],n7", *TRAIN)
    asked = {"nodes": "2", "ntasks-per-node": "8", "gres": "gpu:8", "cpus-per-task": "6", "time": "24:00:00"}
    asked |= {"partition": "big", "account": "art", "qos": "high", "constraint": "a100&ib", "mem": "0", "exclusive": ""}
    asked |= {"signal": "USR1@180", "exclude": "n[1-3],n7", "mail-user": "ada@example.org", "requeue": ""}
    asked |= {"open-mode": "append", "job-name": "faces", "output": f"{elsewhere}/logs/%x-%j.out"}
    assert asked.items() <= directives(text).items()


def test_a_job_that_uses_accelerate_launch(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = written(capsys, "--launcher", "accelerate", "--gpus-per-node", "4", "--cpus", "6", *TRAIN)
    asked = {"ntasks-per-node": "1", "gres": "gpu:4", "cpus-per-task": "24", "signal": "B:USR1@120"}
    assert asked.items() <= directives(text).items()
    assert "\nexport RANKS_PER_NODE=4 GPUS_PER_NODE=4\n" in text and "/node.sh\n" in text


def test_a_container_and_setup_lines(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "site.sh").write_text("module load cuda\nexport NCCL_DEBUG=WARN\n")
    text = written(capsys, "--container", "/images/a b.sqsh", "--setup", "site.sh", *TRAIN)
    assert "\nset -e\nmodule load cuda\nexport NCCL_DEBUG=WARN\nset +e\n" in text and "\npython=python3\n" in text
    assert f"'--container-image=/images/a b.sqsh' --container-mounts={elsewhere},{script.FOLDER}" in text


def test_a_container_mounts_paths_outside_of_the_directory(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scratch = elsewhere.parent / f"{elsewhere.name}-scratch"
    for name in ("faces", "runs"):
        (scratch / name).mkdir(parents=True)
    (elsewhere / "linked").symlink_to(scratch / "faces")
    for shards in ("linked", str(scratch / "faces")):
        words = ["--", "--preset", "smoke", "--batch", "16", "--shards", shards, "--run", str(scratch / "runs" / "new")]
        text = written(capsys, "--container", "/images/torch.sqsh", *words)
        (mounts,) = re.findall(r"--container-mounts=(\S+)", text)
        assert set(mounts.split(",")[2:]) == {str(scratch / "faces"), str(scratch / "runs")}
    (scratch / "a,b").mkdir()
    words[words.index("--shards") + 1] = str(scratch / "a,b")
    with raises("invalid-value", "--shards", "--container"):
        written(capsys, "--container", "/images/torch.sqsh", *words)


WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(WORD, min_size=1, max_size=5), st.lists(WORD, max_size=2))
@settings(max_examples=60)
def test_any_words_reach_the_command_unchanged(words: list[str], more: list[str]) -> None:
    """Run the generated part in bash and print its arguments."""
    text = script.training(Job(), words, Path("/some where/$(touch x)"), "a test")
    lines = text.split("# ---- every job ----")[0] + 'printf \'%s\\0\' "$directory" "$@"\n'
    done = subprocess.run(["bash", "-s", "--", *more], input=lines.encode(), capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == ["/some where/$(touch x)", *words, *more]


@given(st.text(st.characters(min_codepoint=32), max_size=20))
def test_a_directive_is_a_single_line(value: str) -> None:
    assert re.fullmatch(
        r"#SBATCH --comment(=.+)?", script.directive("comment", value).replace("\u2028", " "), re.DOTALL
    )
    assert "\n" not in script.directive("comment", value)


# ---------------------------------------------------------------- file systems

Mount = namedtuple("Mount", "mountpoint fstype")


def test_directories_on_local_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [Mount("/", "xfs"), Mount("/scratch", "lustre"), Mount("/run/user", "tmpfs"), Mount("/dev/shm", "tmpfs")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    monkeypatch.setattr("shards.core.filesystems.existing", lambda path: path)
    assert filesystems.check({"--run": Path("/scratch/ada/runs"), "--logs": Path("/scratch/logs")}) == ""
    assert "--run /home/ada (xfs)" in filesystems.check({"--run": Path("/home/ada"), "--logs": Path("/scratch/x")})
    for place in ("/tmp/run", "/var/tmp/run", "/dev/shm/x", "/run/user/1000/x"):
        with raises("local-filesystem", f"--run {place}"):
            filesystems.check({"--run": Path(place)})


def test_a_directory_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    filesystems.writable("--run", tmp_path / "new" / "run")
    with raises("not-a-directory", "--run"):
        filesystems.writable("--run", tmp_path / "file" / "run")


@pytest.mark.long
def test_an_installed_package_has_its_scripts(tmp_path: Path) -> None:
    """An unpacked wheel writes a job that uses the wheel's scripts."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-q", "-w", tmp_path]
    subprocess.run([*build, copy_of_the_checkout(tmp_path / "checkout")], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    command = [sys.executable, "-m", "launch", "slurm", "--storage", "trust", *TRAIN]
    env = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    task = re.search(r"(?m)^task=(\S+)$", done.stdout)
    assert task and Path(task[1]).is_relative_to(tmp_path / "site") and Path(task[1]).exists()
