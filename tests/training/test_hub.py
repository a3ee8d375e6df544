"""A model's name is looked up once: a typo, or a machine without network, is one line at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Hub(BaseHTTPRequestHandler):
    """Knows the model ``org/known``, guards ``org/gated``, and has no other."""

    def do_GET(self) -> None:
        asked.append(self.path)
        if "org/known" in self.path:
            self.answer(200, b'{"id": "org/known", "siblings": []}')
        elif "org/gated" in self.path:
            self.answer(403, b"{}", "GatedRepo")
        else:
            self.answer(404, b"{}", "RepoNotFound")

    do_HEAD = do_GET

    def answer(self, status: int, body: bytes, code: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


asked: list[str] = []


@pytest.fixture
def hub() -> Iterator[str]:
    asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(*command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the hub's client reads its environment when it is imported."""
    environment = {"HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "0", **environment}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def look_up(name: str, folder: Path, **environment: str) -> str:
    """What ``require_on_hub`` has to say."""
    code = (
        "import sys\n"
        "from grpo_project.errors import ConfigError\n"
        "from grpo_project.training.hub import require_on_hub\n"
        "try: require_on_hub(sys.argv[1], '--model')\n"
        "except ConfigError as error: print(error)\n"
    )
    done = run("-c", code, name, folder=folder, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_name_that_neither_this_machine_nor_the_hub_knows_ends_the_command_at_once(tmp_path: Path, hub: str) -> None:
    command = ("train", "--output_dir", "out", "--model_name", "org/tpyo")
    done = run("-m", "grpo_project.cli", *command, folder=tmp_path, HF_ENDPOINT=hub)
    assert done.returncode == 2
    assert done.stderr == (
        "grpo train: --model_name org/tpyo: there is no such folder here, and the hub has no model of that name (a "
        "private one needs `hf auth login` or HF_TOKEN)\n"
    )
    assert len([path for path in asked if "tpyo" in path]) == 1
    assert not (tmp_path / "out").exists()


def test_a_gated_model_says_how_to_get_in(tmp_path: Path, hub: str) -> None:
    assert look_up("org/gated", tmp_path, HF_ENDPOINT=hub).startswith("--model org/gated is gated on the hub")


def test_a_model_that_the_hub_has(tmp_path: Path, hub: str) -> None:
    assert look_up("org/known", tmp_path, HF_ENDPOINT=hub) == ""


def test_without_network(tmp_path: Path) -> None:
    said = look_up("org/model", tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert "the hub can't be reached" in said
    assert "offline, give the folder that holds the model" in said
    assert said.count("\n") == 1


def test_told_to_be_offline(tmp_path: Path) -> None:
    said = look_up("org/model", tmp_path, HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in said
    assert said.count("\n") == 1


def test_what_can_be_no_hub_id(tmp_path: Path) -> None:
    said = look_up("my model", tmp_path)
    assert "it can't be a hub id" in said
    assert said.count("\n") == 1


def test_several_processes_that_would_each_train_alone_are_refused(tmp_path: Path) -> None:
    done = run("-m", "grpo_project.cli", "train", "--output_dir", "out", folder=tmp_path, WORLD_SIZE="2")
    assert done.returncode == 2
    assert done.stderr.startswith("grpo train: WORLD_SIZE is 2, but this process would train alone")
    assert "--use_cpu true" in done.stderr
    assert not (tmp_path / "out").exists()
