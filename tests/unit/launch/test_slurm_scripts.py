"""`python -m launch slurm` without a cluster: what it refuses, what it writes, and that it needs no torch."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launch.slurm import filesystems, script
from launch.slurm.options import Job, seconds
from launch.slurm.submit import main
from shards.core.errors import UserError
from shards.dataset.manifest import MANIFEST
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


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "what to run is missing; write it after two dashes"),
        (["--node", "2", *TRAIN], "did you mean --nodes?"),
        (["--nodes", "0", *TRAIN], "--nodes: 0 is below 1"),
        (["--time", "soon", *TRAIN], "--time 'soon' is no time limit"),
        (["--time", "2", *TRAIN], "--time 2 leaves nothing before the warning, --warn 120"),
        (["--partition", "a b", *TRAIN], "--partition: 'a b' is nothing that SLURM takes there"),
        (["--account", "x;reboot", *TRAIN], "--account: 'x;reboot' is nothing"),
        (["--name", "x\n#SBATCH --nodes=99", *TRAIN], "--name: 'x\\n#SBATCH"),
        (["--mem", "much", *TRAIN], "like 64G"),
        (["--mail", "ada", *TRAIN], "like ada@example.org"),
        (["--logs", "a\nb", *TRAIN], "a line break"),
        (["--logs", "a\\b", *TRAIN], "SLURM takes backslashes out of it"),
        (["--setup", "if", *TRAIN], "--setup is no shell"),
        (["--setup", "module load \\", *TRAIN], "ends in the middle of a command"),
        (["--setup", "cat <<END", *TRAIN], "ends in the middle of a command or a here-document"),
        (["--sbatch", "nodes=3", *TRAIN], "--sbatch nodes: use --nodes"),
        (["--sbatch", "mail=x", *TRAIN], "--sbatch mail: use --mail"),
        (["--sbatch", "wrap=x", *TRAIN], "--sbatch wrap: the job decides this itself"),
        (["--sbatch", "comment='a", *TRAIN], "no closing quotation"),
        (["--sbatch", "'comment=a\nreboot'", *TRAIN], "is no long option of sbatch"),
        (["--sbatch", "$(reboot)", *TRAIN], "is no long option of sbatch"),
        (["--processes-per-node", "2", *TRAIN], "one process has one GPU"),
        (["--python", "/no/python", *TRAIN], "--python /no/python: there is no such interpreter"),
        (["--", "--prest", "smoke"], "did you mean --preset?"),
        (["--", "--preset", "faces64"], "--shards is missing"),
        (["--", "--preset", "faces64", "--shards", "no/where"], "--shards no/where: there is no such data set"),
        (["--", "--preset", "smoke", "--init-from", "no/run"], "there is no such run"),
        (["--nodes", "3", *TRAIN], "--batch 16 is not divisible by 3 processes"),
        (["--array", "2", "--nodes", "2", "--", "data", "out"], "--nodes: each job of --array packs by itself"),
        (["--array", "2", "--", "data", "out", "--sise", "3"], "did you mean --size?"),
        (["--array", "2", "--", "--size", "32", "data", "out"], "write SRC and OUT first"),
        (["--array", "2", "--", "data", "out", "--part", "1/2"], "--part: each job of the array has its own"),
        (["--array", "2", "--", "nothing", "out"], "nothing: there is no such folder or file"),
        (["--submit", *TRAIN], "there is no sbatch here"),
    ],
)
def test_a_mistake_is_one_sentence(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sentence: str
) -> None:
    monkeypatch.setenv("PATH", str(Path(shutil.which("bash") or "").parent) if "--setup" in words else "/nowhere")
    with pytest.raises(UserError) as caught:
        main(["--storage", "trust", *words])
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert [path.name for path in elsewhere.iterdir()] == ["data"], "something was written"


def test_the_command_ends_with_status_2_and_imports_no_torch(tmp_path: Path) -> None:
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
        assert ("did you mean --partition?" in done.stderr) == (status == 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90", 5400), ("1:30", 90), ("24:00:00", 86400), ("2-0", 172800), ("1-02:03", 93780), ("1-02:03:04", 93784)],
)
def test_time_limits(text: str, expected: int) -> None:
    assert seconds(text) == expected


# ---------------------------------------------------------------- what is written


def directives(text: str) -> dict[str, str]:
    return dict(re.findall(r"(?m)^#SBATCH --([a-z-]+)=?(.*)$", text))


@pytest.mark.parametrize("words", [["--", "--preset", "smoke"], ["--array", "4", "--", "data", "out"]])
def test_below_the_mark_it_is_the_script_that_lies_in_the_folder(
    elsewhere: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    text = written(capsys, *words)
    original = (script.FOLDER / ("pack.sbatch" if "--array" in words else "train.sbatch")).read_text()
    mark = "# ---- every job ----\n"
    assert text.split(mark)[1:] == original.split(mark)[1:]
    assert text.split("# ---- this job")[0] == original.split("# ---- this job")[0]
    theirs, ours = directives(original), directives(text)
    assert theirs.keys() - ours.keys() <= {"gres"}, "the command forgot a line of the script"


def test_a_job_of_two_nodes(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_job_of_accelerates_launcher(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = written(capsys, "--launcher", "accelerate", "--gpus-per-node", "4", "--cpus", "6", *TRAIN)
    asked = {"ntasks-per-node": "1", "gres": "gpu:4", "cpus-per-task": "24", "signal": "B:USR1@120"}
    assert asked.items() <= directives(text).items()
    assert "\nexport RANKS_PER_NODE=4 GPUS_PER_NODE=4\n" in text and "/node.sh\n" in text


def test_a_container_and_the_sites_own_lines(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (elsewhere / "site.sh").write_text("module load cuda\nexport NCCL_DEBUG=WARN\n")
    text = written(capsys, "--container", "/images/a b.sqsh", "--setup", "site.sh", *TRAIN)
    assert "\nset -e\nmodule load cuda\nexport NCCL_DEBUG=WARN\nset +e\n" in text and "\npython=python3\n" in text
    assert f"'--container-image=/images/a b.sqsh' --container-mounts={elsewhere},{script.FOLDER}" in text


def test_a_container_sees_what_lies_outside_the_folder(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    with pytest.raises(UserError, match="--container takes paths apart at"):
        written(capsys, "--container", "/images/torch.sqsh", *words)


WORD = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.lists(WORD, min_size=1, max_size=5), st.lists(WORD, max_size=2))
@settings(max_examples=60)
def test_any_words_reach_the_command_as_they_are(words: list[str], more: list[str]) -> None:
    """The settings are run by bash, up to the mark; its arguments are then printed."""
    text = script.training(Job(), words, Path("/some where/$(touch x)"), "made by a test")
    lines = text.split("# ---- every job ----")[0] + 'printf \'%s\\0\' "$directory" "$@"\n'
    done = subprocess.run(["bash", "-s", "--", *more], input=lines.encode(), capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == ["/some where/$(touch x)", *words, *more]


@given(st.text(st.characters(min_codepoint=32), max_size=20))
def test_a_directive_is_one_line(value: str) -> None:
    assert re.fullmatch(
        r"#SBATCH --comment(=.+)?", script.directive("comment", value).replace("\u2028", " "), re.DOTALL
    )
    assert "\n" not in script.directive("comment", value)


# ---------------------------------------------------------------- where its folders lie

Mount = namedtuple("Mount", "mountpoint fstype")


def test_folders_of_this_machine_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [Mount("/", "xfs"), Mount("/scratch", "lustre"), Mount("/run/user", "tmpfs"), Mount("/dev/shm", "tmpfs")]
    monkeypatch.setattr(filesystems.psutil, "disk_partitions", lambda all: mounts)
    monkeypatch.setattr(filesystems, "existing", lambda path: path)
    assert filesystems.check({"--run": Path("/scratch/ada/runs"), "--logs": Path("/scratch/logs")}) == ""
    assert "--run /home/ada (xfs)" in filesystems.check({"--run": Path("/home/ada"), "--logs": Path("/scratch/x")})
    for place in ("/tmp/run", "/var/tmp/run", "/dev/shm/x", "/run/user/1000/x"):
        with pytest.raises(UserError, match=f"--run {place} is of this machine alone"):
            filesystems.check({"--run": Path(place)})


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    filesystems.writable("--run", tmp_path / "new" / "run")
    with pytest.raises(UserError, match="is no folder"):
        filesystems.writable("--run", tmp_path / "file" / "run")


@pytest.mark.long
def test_an_installed_package_has_its_scripts(tmp_path: Path) -> None:
    """A wheel, unpacked, writes a job whose files are its own."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-q", "-w", tmp_path]
    subprocess.run([*build, copy_of_the_checkout(tmp_path / "checkout")], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    command = [sys.executable, "-m", "launch", "slurm", "--storage", "trust", *TRAIN]
    env = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    task = re.search(r"(?m)^task=(\S+)$", done.stdout)
    assert task and Path(task[1]).is_relative_to(tmp_path / "site") and Path(task[1]).exists()
