"""The page while training runs: who gets it, what they get, and that nothing else is to be had."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded_run import record_run, training_row

from grpo_project.record.journal import Journal
from grpo_project.reports.live import LiveData, ReportServer


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return record_run(tmp_path / "run")


@pytest.fixture
def server(run_dir: Path) -> Iterator[ReportServer]:
    found = ReportServer("a run", LiveData([run_dir]))
    thread = threading.Thread(target=found.serve_forever, args=(0.02,))
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def ask(
    server: ReportServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body, answer.headers


def test_the_page_is_served_to_who_has_the_address(server: ReportServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url.startswith(f"http://127.0.0.1:{server.server_port}/?token=")
    status, body, headers = ask(server, server.url.split(str(server.server_port))[1])
    assert status == 200 and b"<title>a run</title>" in body
    assert b"connect-src &#x27;self&#x27;" in body
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/?token=", "/?token=wrong", "/data", "/data?token=x", "/run.json"])
def test_without_the_token_there_is_nothing(server: ReportServer, path: str) -> None:
    status, body, _ = ask(server, path)
    assert status == 403 and b"runs" not in body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:80"])
def test_another_host_name_is_refused_even_with_the_token(server: ReportServer, host: str) -> None:
    assert ask(server, f"/?token={server.token}", Host=host)[0] == 403


@pytest.mark.parametrize("path", ["/run.json", "/../run.json", "/journal/metrics.jsonl", "/%2e%2e/run.json"])
def test_no_file_can_be_asked_for(server: ReportServer, path: str) -> None:
    status, body, _ = ask(server, f"{path}?token={server.token}")
    assert status == 404 and b"run_id" not in body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_written(server: ReportServer, method: str) -> None:
    assert ask(server, f"/data?token={server.token}", method)[0] == 501


def test_news_come_when_the_journal_has_grown_and_the_run_is_only_read(server: ReportServer, run_dir: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")}
    path = f"/data?token={server.token}"
    status, body, headers = ask(server, path)
    assert status == 200 and json.loads(body)["runs"][0]["last_step"] == 20
    tag = headers["ETag"]
    assert ask(server, path, If_None_Match=tag)[:2] == (304, b"")
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*")} == files
    with Journal(run_dir, 1) as journal:
        journal.event("resumed", step=20)
        journal.metrics(21, "train", training_row(21, 1))
    server.data.due = 0.0  # the share of time that reading may take is not what is tested
    status, body, headers = ask(server, path, If_None_Match=tag)
    assert status == 200 and json.loads(body)["runs"][0]["last_step"] == 21
    assert headers["ETag"] != tag


def test_a_run_that_was_moved_away_is_said_and_the_server_stays(server: ReportServer, run_dir: Path) -> None:
    path = f"/data?token={server.token}"
    assert ask(server, path)[0] == 200
    away = run_dir.rename(run_dir.with_name("away"))
    server.data.due = 0.0
    status, body, _ = ask(server, path)
    assert status == 503 and b"is not a run directory" in body
    away.rename(run_dir)
    assert ask(server, path)[0] == 200
