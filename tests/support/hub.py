"""A stand-in for the Hugging Face Hub on the loopback: repositories of models with commits, for one token."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "hf_loopbackLoopbackLoopback"


class Hub:
    """What the server holds: the files of each commit, newest last, and what it was asked.

    Attributes:
        commits: repository -> (commit hash, files by name).
        seen: method and path of each request.
        refuse: if set, every request is answered with this status.
        broken: if set, requests for paths with this end are answered with status 400.
    """

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.private: set[str] = set()
        self.objects: dict[str, bytes] = {}
        self.seen: list[str] = []
        self.refuse = 0
        self.broken = ""
        self.url = ""

    def files(self, repository: str) -> dict[str, bytes]:
        return self.commits[repository][-1][1]

    def commit(self, repository: str, files: dict[str, bytes]) -> str:
        """Add a commit and return its hash."""
        earlier = self.commits.setdefault(repository, [])
        kept = {**(earlier[-1][1] if earlier else {}), **files}
        name = hashlib.sha1(repr((len(earlier), sorted(kept))).encode()).hexdigest()
        earlier.append((name, kept))
        return name

    def at(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        found = self.commits.get(repository, [])
        return found[-1] if found and revision == "main" else next((c for c in found if c[0] == revision), None)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def answer(self, status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict | list) else body
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self) -> None:
        self.handle_any()

    do_GET = do_HEAD = do_PUT = do_POST

    def handle_any(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        self.hub.seen.append(f"{self.command} {path}")
        if self.hub.refuse:
            return self.answer(self.hub.refuse)
        if self.hub.broken and path.endswith(self.hub.broken):
            return self.answer(400)
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command in ("GET", "HEAD"):
            return self.read(path, allowed)
        if not allowed and not path.startswith("/objects/"):
            return self.answer(401)
        return self.write(path, data)

    def read(self, path: str, allowed: bool) -> None:
        listing = re.fullmatch("/api/models/([^/]+/[^/]+)/(revision|tree)/([^/]+)", path)
        content = re.fullmatch("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = listing or content
        if match is None or match[1] not in self.hub.commits or (match[1] in self.hub.private and not allowed):
            return self.answer(404, X_Error_Code="RepoNotFound")
        found = self.hub.at(match[1], match[3] if listing else match[2])
        if found is None:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        commit, files = found
        if listing and listing[2] == "tree":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
            return self.answer(200, json.dumps(entries).encode())
        if listing:
            siblings = [{"rfilename": name} for name in files]
            return self.answer(200, {"id": match[1], "sha": commit, "siblings": siblings, "private": False, "tags": []})
        if match[3] not in files:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        data = files[match[3]]
        return self.answer(200, data, X_Repo_Commit=commit, ETag=f'"{hashlib.sha1(data).hexdigest()}"')

    def write(self, path: str, data: bytes) -> None:
        hub = self.hub
        if path.startswith("/objects/"):
            hub.objects[path.rpartition("/")[2]] = data
            return self.answer(200)
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(data)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            if asked.get("private") or asked.get("visibility") == "private":
                hub.private.add(name)
            if name in hub.commits:
                return self.answer(409, {"url": f"{hub.url}/{name}"})
            hub.commit(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
            return self.answer(200, {"url": f"{hub.url}/{name}"})
        if found := re.fullmatch("/api/models/([^/]+/[^/]+)/preupload/main", path):
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(data)["files"]
            ]
            return self.answer(200, {"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**o, "actions": {"upload": {"href": f"{hub.url}/objects/{o['oid']}"}}}
                for o in json.loads(data)["objects"]
            ]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        if found := re.fullmatch("/api/models/([^/]+/[^/]+)/commit/main", path):
            files: dict[str, bytes] = {}
            for line in map(json.loads, data.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.objects[value["oid"]]
            name = hub.commit(found[1], files)
            return self.answer(200, {"commitUrl": f"{hub.url}/{found[1]}/commit/{name}", "commitOid": name})
        return self.answer(404)


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """Serve an empty hub for the duration of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def use(hub: Hub, cache: Any, patch: pytest.MonkeyPatch) -> None:
    """Make huggingface_hub of this process talk to a hub, with the token and an empty cache."""
    from huggingface_hub import constants

    patch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-token"))
    patch.setenv("HF_TOKEN", TOKEN)
