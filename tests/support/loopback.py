"""A stand-in for the W&B server on the loopback interface, enough for the real client, with faults on demand.

``python test_wandb_sync.py --loopback`` and the tests use it. Everything received is kept in memory, nothing leaves the
machine. It models what delivery depends on: the history as lines that are written by offset, the last step and the
line count that the server reports, the state of a run. What it can't tell is how the real server
orders its own writes; ``line_count`` and ``lag`` select the readings that were not settled.
"""

from __future__ import annotations

import base64
import collections
import json
import math
import re
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from loopback_http import LoopbackHttp

HISTORY = "wandb-history.jsonl"
ENTITY = "loopback"
API_KEY = "loopback" + "0" * 32
_OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


@dataclass
class Fault:
    """What goes wrong with the next ``count`` requests of a ``scope``.

    kind: an HTTP status as text ("500"); "drop" (connection reset, not processed); "hang" (silent for ``seconds``,
    then reset, not processed); "ack_lost" (processed, then reset); "delay" (``seconds`` late).
    scope: "all", "graphql" or "file_stream".
    """

    kind: str
    count: int = 1
    scope: str = "all"
    seconds: float = 2.0


@dataclass
class LoopbackRun:
    """One run as the server has it. ``overwritten``: lines that were replaced by other content."""

    entity: str
    project: str
    name: str
    files: dict[str, dict[int, str]] = field(default_factory=lambda: collections.defaultdict(dict))
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    display_name: str = ""
    group: str | None = None
    state: str = "running"
    overwritten: list[tuple[str, str]] = field(default_factory=list)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The history rows in the order of their lines."""
        lines = self.files[HISTORY]
        return [json.loads(lines[number]) for number in sorted(lines)]

    @property
    def steps(self) -> list[int]:
        return [row["_step"] for row in self.history]

    def write(self, name: str, offset: int, lines: list[str]) -> None:
        stored = self.files[name]
        for number, line in enumerate(lines, start=offset):
            if name == HISTORY and number in stored and metrics(stored[number]) != metrics(line):
                self.overwritten.append((stored[number], line))
            stored[number] = line


class LoopbackServer:
    """Runs in threads of this process; a context manager.

    Args:
        line_count: what opening a run reports as its line count: "real", or "zero" (a server that lets a new client
            start over unless it asked to resume).
        lag: newest history lines that the server acknowledges and does not show yet.
    """

    def __init__(self, line_count: str = "real", lag: int = 0) -> None:
        self.line_count, self.lag = line_count, lag
        self.corrupt: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
        """What the server makes of a history row that it shows; None for one that it lost."""
        self.lock = threading.RLock()
        self.runs: dict[str, LoopbackRun] = {}
        self.faults: list[Fault] = []
        self.hits: collections.Counter[str] = collections.Counter()
        self.requests: list[str] = []
        self.authorizations: set[str] = set()
        self._port = 0
        self._http: LoopbackHttp | None = None

    def __enter__(self) -> LoopbackServer:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables that send the W&B client here."""
        address = {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": API_KEY, "WANDB_MODE": "online"}
        return {**address, "WANDB_ERROR_REPORTING": "false"}

    def listen(self) -> None:
        """Accept connections, on the same port as before."""
        if self._http is None:
            self._http = LoopbackHttp(("127.0.0.1", self._port), self)
            self._port = self._http.server_address[1]
            threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def refuse(self) -> None:
        """Close the port and every connection: an unreachable server, until ``listen``."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http.cut()
            self._http = None

    def fault(self, kind: str, count: int = 1, scope: str = "all", seconds: float = 2.0) -> None:
        """Let the next requests go wrong; see ``Fault``."""
        with self.lock:
            self.faults.append(Fault(kind, count, scope, seconds))

    def run(self, name: str) -> LoopbackRun:
        with self.lock:
            return self.runs[name]

    def take_fault(self, scope: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.count > 0 and fault.scope in ("all", scope):
                    fault.count -= 1
                    self.hits[fault.kind] += 1
                    return fault
        return None

    def file_stream(self, name: str, body: dict[str, Any]) -> tuple[int, Any]:
        with self.lock:
            run = self.runs.get(name)
            if run is None:
                return 404, {"error": "no such run"}
            for file, chunk in (body.get("files") or {}).items():
                run.write(file, int(chunk.get("offset", 0)), chunk.get("content") or [])
            run.state = "running"
            if body.get("complete"):
                run.state = "failed" if body.get("exitcode") else "finished"
            return 200, {"stopped": False, "limits": {}}

    def graphql(self, body: dict[str, Any]) -> dict[str, Any]:
        query, variables = body.get("query") or "", body.get("variables") or {}
        found = _OPERATION.search(query)
        operation = body.get("operationName") or (found[1] if found else "")
        answer = getattr(self, f"answer_{operation}", None)
        with self.lock:
            self.requests.append(operation)
            if answer is None:  # as an old server that does not know the field
                return {"data": None, "errors": [{"message": f"unknown operation {operation}"}]}
            try:
                return {"data": answer(variables)}
            except LookupError as error:
                return {"data": None, "errors": [{"message": str(error)}]}

    # The operations that the client asks for, by name.

    def answer_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "flags": "{}", "teams": {"edges": []}}
        return {"viewer": {**viewer, "name": ENTITY, "email": "", "admin": False, "apiKeys": {"edges": []}}}

    answer_GetDefaultEntity = answer_Viewer

    def answer_OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def answer_RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:
        if not any(run.project == asked["project"] for run in self.runs.values()):
            return {"model": None}
        run = self.runs.get(asked["name"])
        project = self.project(asked["project"])
        return {"model": {**project, "bucket": run and self.bucket(run)}}

    def answer_UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:
        name = asked.get("name") or base64.b64decode(asked["id"]).decode()
        inserted = name not in self.runs
        if inserted:
            self.runs[name] = LoopbackRun(ENTITY, asked.get("project") or "uncategorized", name)
        run = self.runs[name]
        run.state = "running"
        run.display_name = asked.get("displayName") or run.display_name
        run.group = asked.get("groupName") or run.group
        if asked.get("config"):
            run.config = json.loads(asked["config"])
        bucket = self.bucket(run)
        if self.line_count == "zero":
            bucket["historyLineCount"] = 0
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def answer_CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:
        base = f"{self.url}/upload/{asked['run']}/"
        files = [{"name": name, "uploadUrl": base + urllib.parse.quote(name)} for name in asked["files"]]
        return {"createRunFiles": {"runID": asked["run"], "uploadHeaders": [], "files": files}}

    def answer_ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def answer_CreateArtifact(self, _: dict[str, Any]) -> dict[str, Any]:
        # Known already: the client then leaves its files out. The table itself comes as a media file.
        sequence = {"id": "1", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": "1", "state": "COMMITTED", "artifactSequence": sequence}}}

    def answer_Run(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked["name"])
        if run is None or run.project != asked["project"]:
            return {"project": {"internalId": "1", "run": None}}
        public = {
            **{"projectId": "1", "state": run.state, "group": run.group, "jobType": None, "commit": None},
            **{"readOnly": False, "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00"},
            **{
                "systemMetrics": "{}",
                "historyKeys": self.history_keys(run),
                "user": {"name": ENTITY, "username": ENTITY},
            },
        }
        return {"project": {"internalId": "1", "run": {**self.bucket(run), **public}}}

    answer_GetRun = answer_GetLightRun = answer_LightRun = answer_Run

    def answer_RunHistoryKeys(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked.get("name") or asked["run"])
        return {"project": {"run": run and {"historyKeys": self.history_keys(run)}}}

    def answer_RunParquetHistory(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked["runName"])
        live = strict(self.visible(run)) if run else []
        return {
            "project": {"run": run and {"parquetUrls": [], "parquetHistory": {"parquetUrls": [], "liveData": live}}}
        }

    def answer_HistoryPage(self, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[asked["run"]]
        rows = [row for row in self.visible(run) if asked["minStep"] <= row["_step"] < asked["maxStep"]]
        return {"project": {"run": {"history": [json.dumps(strict(row)) for row in rows[: asked["pageSize"]]]}}}

    def visible(self, run: LoopbackRun) -> list[dict[str, Any]]:
        rows = run.history
        if self.corrupt is not None:
            rows = [shown for row in rows if (shown := self.corrupt(row)) is not None]
        return rows[: len(rows) - self.lag] if self.lag else rows

    def history_keys(self, run: LoopbackRun) -> dict[str, Any]:
        rows = self.visible(run)
        keys = {key: {"typeCounts": [{"type": "number", "count": len(rows)}]} for row in rows[-1:] for key in row}
        return {"sets": [], "keys": keys, "lastStep": max((row["_step"] for row in rows), default=-1)}

    def bucket(self, run: LoopbackRun) -> dict[str, Any]:
        rows = self.visible(run)
        # Without the telemetry field the client takes the run for one that never started, and begins at line 0.
        known = run.config.get("_wandb", {}).get("value", {})
        started = json.dumps({"t": known["t"]} if "t" in known else {})
        return {
            **{"id": base64.b64encode(run.name.encode()).decode(), "name": run.name, "displayName": run.display_name},
            **{"description": None, "config": json.dumps(run.config), "sweepName": None, "tags": [], "notes": None},
            **{"project": self.project(run.project), "historyLineCount": len(rows), "eventsLineCount": 0},
            **{"logLineCount": 0, "historyTail": json.dumps([json.dumps(strict(row)) for row in rows[-1:]])},
            **{
                "eventsTail": "[]",
                "summaryMetrics": json.dumps(strict(rows[-1] if rows else {})),
                "wandbConfig": started,
            },
        }

    def project(self, name: str) -> dict[str, Any]:
        return {"id": "1", "internalId": "1", "name": name, "entityName": ENTITY, "entity": {"id": "1", "name": ENTITY}}


def metrics(line: str) -> dict[str, Any]:
    """A history row without what the client measures itself, NaN made comparable."""
    return strict({key: value for key, value in json.loads(line).items() if key not in ("_runtime", "_timestamp")})


def strict(value: Any) -> Any:
    """NaN and infinities as text: the client sends them bare, and its own reader refuses them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    return [strict(item) for item in value] if isinstance(value, list) else value
