"""A stand-in for the W&B server on the loopback interface: takes whole online runs, and fails when it is told to.

It answers the few requests that a client of wandb 0.31 makes, and keeps what it receives by run id:
``server.runs["abc"].history`` is the list of logged rows. ``server.views`` are the workspaces that were saved, by their
internal name; only projects in ``server.projects`` have any.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Run:
    """What the server knows of one run."""

    project: str = ""
    entity: str = ""
    group: str = ""
    display_name: str = ""
    starts: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None


class FakeWandb(ThreadingHTTPServer):
    """Serves from construction to ``stop``; ``status`` turns every answer into that error, ``delay`` slows them (s).

    ``GET /lose`` sets the status to 500, for a client that wants to lose its server at a certain point.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, Run] = {}
        self.projects: set[str] = set()
        self.views: dict[str, dict[str, Any]] = {}
        self.artifacts: list[dict[str, Any]] = []  # as they were created, with the run that did
        self.used: list[dict[str, Any]] = []
        self.status: int | None = None
        self.delay = 0.0
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeWandb  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._body()
        if self._fails():
            return
        if self.path == "/lose":  # every request after this one fails
            self.server.status = 500
        self._answer({})

    def do_PUT(self) -> None:
        body = self._body()
        if self._fails():
            return
        _, _, run, name = self.path.split("/", 3)
        with self.server.lock:
            self.server.runs.setdefault(run, Run()).files[name] = body
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        if self._fails():
            return
        if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path.split("?")[0]):
            self._stream(match[1], json.loads(body))
        elif self.path == "/graphql":
            request = json.loads(body)
            with self.server.lock:
                self._answer({"data": self._resolve(request["query"], request.get("variables") or {})})
        else:
            self._answer({}, 404)

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, value: object, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fails(self) -> bool:
        time.sleep(self.server.delay)
        if self.server.status:
            self._answer({"error": "made to fail"}, self.server.status)
        return bool(self.server.status)

    def _stream(self, run_id: str, message: dict[str, Any]) -> None:
        with self.server.lock:
            run = self.server.runs.setdefault(run_id, Run())
            for name, part in (message.get("files") or {}).items():
                lines = [json.loads(line) for line in part["content"]] if name.endswith((".jsonl", ".json")) else []
                if name == "wandb-history.jsonl":
                    run.history[part["offset"] : part["offset"] + len(lines)] = lines
                elif name == "wandb-summary.json":
                    run.summary.update(lines[-1])
            if message.get("complete"):
                run.exit_code = message.get("exitcode")
        self._answer({"limits": {}})

    def _resolve(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        match = re.search(r"(?:query|mutation)\s+(\w+)", query)
        operation = match[1] if match else ""
        if "viewer" in query.split("{", 2)[1]:
            viewer = {"id": "u", "entity": "local", "username": "local", "email": "", "flags": "{}", "admin": False}
            return {"viewer": {**viewer, "teams": {"edges": []}}, "serverInfo": {"features": []}}
        if operation == "RunResumeStatus":
            return {"model": {"id": "p", **_place(variables), "bucket": self._bucket(variables["name"])}}
        if operation == "UpsertBucket":
            return {"upsertBucket": self._upsert(variables)}
        if operation == "CreateRunFiles":
            urls = [
                {"name": name, "uploadUrl": f"{self.server.url}/upload/{variables['run']}/{name}"}
                for name in variables["files"]
            ]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": urls}}
        if operation == "CreateArtifact":
            self.server.artifacts.append(variables.get("input") or variables)
            sequence = {"id": "s", "latestArtifact": {"id": "a", "versionIndex": 0}}
            return {"createArtifact": {"artifact": {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}}}
        if operation == "UseArtifact":
            self.server.used.append(variables.get("input") or variables)
            return {"useArtifact": {"artifact": {"id": "a", "digest": "", "description": "", "state": "COMMITTED"}}}
        if operation == "View":
            return {"project": self._views(variables) if variables["name"] in self.server.projects else None}
        if operation == "UpsertView2":
            return {"upsertView": self._upsert_view(variables)}
        if operation == "ServerFeaturesQuery":
            return {"serverInfo": {"features": []}}
        return {"project": None} if operation == "ArtifactType" else {}

    def _bucket(self, run_id: str) -> dict[str, Any] | None:
        run = self.server.runs.get(run_id)
        if run is None or not run.starts:
            return None
        return {
            "id": "r",
            "name": run_id,
            "displayName": run.display_name,
            "sweepName": None,
            "summaryMetrics": json.dumps(run.summary),
            "config": json.dumps(run.config),
            "historyLineCount": len(run.history),
            "eventsLineCount": 0,
            "logLineCount": 0,
            "historyTail": json.dumps([json.dumps(row) for row in run.history[-1:]]),
            "eventsTail": "[]",
            "wandbConfig": '{"t": 1}',
            "tags": [],
        }

    def _views(self, variables: dict[str, Any]) -> dict[str, Any]:
        view = self.server.views.get(variables["viewName"])
        there = view is not None and (view["entityName"], view["projectName"]) == (
            variables["entityName"],
            variables["name"],
        )
        return {"allViews": {"edges": [{"node": view}] if there else []}}

    def _upsert_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        """As the real server, this makes another view where no id is given."""
        new = "id" not in variables
        view = {**variables, "id": variables.get("id") or f"view{len(self.server.views)}"}
        if new and view["name"] in self.server.views:
            raise AssertionError(f"a second workspace by the name {view['name']}")
        self.server.views[view["name"]] = view
        return {"view": {"id": view["id"], "name": view["name"]}, "inserted": new}

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.server.runs.setdefault(variables["name"], Run())
        new, run.starts = run.starts == 0, run.starts + 1
        run.config.update(json.loads(variables.get("config") or "{}"))
        run.project = variables.get("project") or run.project
        run.entity = variables.get("entity") or run.entity
        run.group = variables.get("groupName") or run.group
        run.display_name = variables.get("displayName") or run.display_name or variables["name"]
        bucket = {
            "id": "r",
            "name": variables["name"],
            "displayName": run.display_name,
            "description": "",
            "config": json.dumps(run.config),
            "sweepName": None,
            "project": {"id": "p", **_place(variables)},
            "historyLineCount": len(run.history),
        }
        return {"bucket": bucket, "inserted": new}


def _place(variables: dict[str, Any]) -> dict[str, Any]:
    return {"name": variables.get("project"), "entity": {"name": variables.get("entity") or "local"}}
