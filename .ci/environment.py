"""Make the virtual environment that `make` works in: `python3 .ci/environment.py .venv [TORCH_INDEX]`.

Standard library only, and no syntax newer than Python 3.6: an interpreter that is too old must be able to say so.
A torch that this interpreter already imports, in the range that pyproject.toml requires, is kept, because it was
built for this machine: the new environment also sees the directory that contains it, and installs no other torch.
"""

import os
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ".[demo,dev]"
# From this line on, constraints.txt has torch and its own requirements.
TORCH_SECTION = "# torch\n"
# Packages with a command of the same name. Where one is installed next to a kept torch, pip adds no command to .venv.
COMMANDS = ["accelerate", "wandb", "tensorboard", "trackio"]
WHERE_IS_TORCH = """
try:
    import os, torch
    print(torch.__version__, os.path.dirname(os.path.dirname(torch.__file__)), sep="\\n")
except Exception:  # none, or a broken one
    pass
"""


def main() -> int:
    environment = Path(sys.argv[1])
    torch_index = sys.argv[2] if len(sys.argv) > 2 else ""
    trouble = missing()
    if trouble:
        print("error: " + trouble, file=sys.stderr)
        return 2
    python = environment / "bin" / "python"
    if not works(python):
        run([sys.executable, "-m", "venv", "--clear", str(environment)])
    version, directory = ("", "") if torch_index else torch_here(required_range())
    see_also(python, directory)
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    if torch_index:
        pinned = re.search(r"(?m)^torch==\S+$", constraints).group()  # type: ignore[union-attr]
        install(python, ["--no-deps", "--index-url", torch_index, pinned])
    if version:
        print("keeping torch %s from %s" % (version, directory), flush=True)  # noqa: UP031
        constraints = constraints.split(TORCH_SECTION)[0] + "torch==" + version + "\n"
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "constraints.txt"
        file.write_text(constraints, encoding="utf-8")
        install(python, ["-c", str(file), "-e", EXTRAS])
        absent = [name for name in COMMANDS if not (python.parent / name).exists()]
        if absent:
            install(python, ["-c", str(file), "--no-deps", "--ignore-installed", *absent])
    return 0


def missing() -> str:
    """Return why this interpreter cannot make the environment; "" if it can."""
    if sys.version_info < (3, 11):  # noqa: UP036
        found = sys.executable + " is " + ".".join(map(str, sys.version_info[:3]))
        return "Python 3.11 or newer is needed and " + found + "; name another one: make PYTHON=/path/to/python3.12"
    if not find_spec("venv") or not find_spec("ensurepip"):  # Debian ships Python without them
        return sys.executable + " lacks the venv module; on Debian and Ubuntu: apt-get install python3-venv"
    return ""


def works(python: Path) -> bool:
    """Return whether an environment exists and works (an upgrade of the system's Python breaks it)."""
    return python.exists() and subprocess.call([str(python), "-c", "import pip"], stderr=subprocess.DEVNULL) == 0


def required_range() -> str:
    """Return the range of torch that pyproject.toml requires, such as ">=2.6,<3"."""
    return re.search(r'"torch(>=[\d.]+,<[\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8")).group(1)  # type: ignore[union-attr]


def torch_here(wanted: str) -> tuple:
    """Return version and directory of the torch that this interpreter imports, if in range; else two empty strings."""
    answer = subprocess.run([sys.executable, "-c", WHERE_IS_TORCH], stdout=subprocess.PIPE, cwd=os.sep, check=False)
    lines = answer.stdout.decode().splitlines()
    if answer.returncode or len(lines) < 2 or not in_range(lines[-2], wanted):
        return "", ""
    return lines[-2], lines[-1]


def in_range(version: str, wanted: str) -> bool:
    """Return whether a version such as "2.13.0+cpu" is in a range such as ">=2.6,<3"."""

    def numbers(text: str) -> list:
        return [int(n) for n in re.findall(r"\d+", text.split("+")[0])]

    low, high = re.match(r">=([\d.]+),<([\d.]+)$", wanted).groups()  # type: ignore[union-attr]
    return numbers(low) <= numbers(version) < numbers(high)


def see_also(python: Path, directory: str) -> None:
    """Let the environment see the packages of a directory, after its own."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.check_output([str(python), "-c", ask]).decode().strip()
    link = Path(own) / "kept_torch.pth"
    if directory:
        link.write_text(directory + "\n", encoding="utf-8")
    elif link.exists():
        link.unlink()


def install(python: Path, arguments: list) -> None:
    loudness = [] if sys.stdout.isatty() else ["--quiet"]  # show progress to a person, keep a log short
    run([str(python), "-m", "pip", "install", "--disable-pip-version-check", *loudness, *arguments])


def run(command: list) -> None:
    """Run a command in the checkout; exit if it fails."""
    print("+ " + " ".join(command), flush=True)
    status = subprocess.call(command, cwd=str(ROOT))
    if status:
        sys.exit("error: `%s` failed; what it printed above says why" % " ".join(command))  # noqa: UP031


if __name__ == "__main__":
    sys.exit(main())
