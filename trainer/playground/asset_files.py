"""The files of the page: JavaScript, style and the document that they go into."""

from __future__ import annotations

import functools
import re
from pathlib import Path

_FOLDER = Path(__file__).parent / "assets"
# In the order in which they build on each other.
RUNTIME = "tensor elementwise shapes matmul convolution resizing reductions program random".split()
INTERFACE = "words address image controls draw walk grid selftest main".split()
_OPERATOR = re.compile(r'^operators\["([\w.]+)"\]', re.MULTILINE)


def read(name: str) -> str:
    """Return the text of a file, such as "page.html"."""
    return (_FOLDER / name).read_text(encoding="utf-8")


def runtime() -> str:
    """Return the script that runs a program; it uses nothing of a document."""
    return "\n".join(read(f"runtime/{name}.js") for name in RUNTIME)


def script() -> str:
    """Return the whole script of the page."""
    interface = "\n".join(read(f"interface/{name}.js") for name in INTERFACE)
    return f'"use strict";\n(() => {{\n{runtime()}\n{interface}\n}})();\n'


@functools.cache
def operators() -> frozenset[str]:
    """Return the names of the operators that the runtime defines, read from its source."""
    return frozenset(_OPERATOR.findall(runtime()))
