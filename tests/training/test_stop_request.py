"""Signals, grace and runtime limit, in real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from grpo_project.cli import main
from grpo_project.durations import parse_duration
from grpo_project.errors import ConfigError
from grpo_project.training.checkpoints import list_checkpoints
from grpo_project.training.stop_request import StopRequest

PRELUDE = "import os, signal, time\nfrom grpo_project.training.stop_request import StopRequest\n"


def run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", PRELUDE + script], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_the_first_signal_is_remembered_and_told(name: str) -> None:
    done = run(
        f"with StopRequest() as stop:\n  os.kill(os.getpid(), signal.{name})\n  print(stop.reason, stop.exit_code)"
    )
    assert done.stdout.split() == [name, "130" if name == "SIGINT" else "75"]
    assert f"{name}: saving a checkpoint" in done.stderr


def test_the_second_signal_ends_the_process_at_once() -> None:
    done = run("with StopRequest():\n  for _ in 'ab': os.kill(os.getpid(), signal.SIGTERM)\n  print('still here')")
    assert done.returncode == 143
    assert done.stdout == ""


def test_after_the_grace_period_the_process_ends_without_saving() -> None:
    done = run("with StopRequest(grace_s=0.2):\n  os.kill(os.getpid(), signal.SIGUSR1)\n  time.sleep(30)")
    assert done.returncode == 75
    assert "the last checkpoint stands" in done.stderr


def test_ctrl_c_out_of_grace_keeps_its_own_code() -> None:
    done = run("with StopRequest(grace_s=0.2):\n  os.kill(os.getpid(), signal.SIGINT)\n  time.sleep(30)")
    assert done.returncode == 130


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGHUP", 75), ("SIGUSR1", 75), ("SIGINT", 130)])
def test_the_first_seconds_obey_too(tmp_path: Path, name: str, code: int) -> None:
    """While the libraries are loaded, which takes most of a start."""
    script = "import sys\nsys.argv = ['grpo']\nfrom grpo_project.cli import main\n"
    script += "import threading\n"
    script += f"threading.Timer(1.5, os.kill, (os.getpid(), signal.{name})).start()\n"
    script += f"sys.exit(main(['train', '--output_dir', {str(tmp_path / 'out')!r}, '--max_steps', '1']))"
    done = run(script)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"\n{name}: stopped before training began\n"
    assert not (tmp_path / "out").exists()


def test_a_save_under_way_is_left_to_finish() -> None:
    script = "with StopRequest(grace_s=0.2) as stop:\n  os.kill(os.getpid(), signal.SIGUSR1)\n"
    done = run(script + "  with stop.saving():\n    time.sleep(1)\n  print('saved')")
    assert (done.returncode, done.stdout) == (0, "saved\n")


def test_the_handlers_of_before_come_back() -> None:
    done = run("with StopRequest():\n  pass\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(30)")
    assert done.returncode == -15


def test_reasons_and_exit_codes_without_a_signal() -> None:
    assert StopRequest().reason is None
    assert (StopRequest(max_runtime_s=0).reason, StopRequest(max_runtime_s=0).exit_code) == ("max_runtime", 75)
    stalled = StopRequest()
    stalled.ask("the curriculum stalled")
    stalled.ask("something else")
    assert (stalled.pending, stalled.reason, stalled.exit_code) == (True, "the curriculum stalled", 1)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("90s", 90), ("3h50m", 13_800), ("1d2h3m4s", 93_784)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "3 hours", "-1", "1h-2m", "50m3x"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="3h50m"):
        parse_duration(text)


def test_a_run_ends_before_its_time_is_up_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        *("train", "--output_dir", str(tmp_path / "run"), "--per_device_train_batch_size", "8", "--use_cpu"),
        *("--num_generations", "4", "--max_completion_length", "8", "--eval_every_n_steps", "0", "--save_steps", "999"),
        *("--verifier_workers", "1"),
    ]
    for seconds in (4, 16, 64):  # a busy machine needs more time for its first step; the same command goes on
        assert main([*flags, "--max_steps", "9999", "--max_runtime", f"{seconds}s"]) == 75
        assert "(max_runtime). The same command goes on from there." in capsys.readouterr().out
        if checkpoints := list_checkpoints(tmp_path / "run"):
            break
    (checkpoint,) = checkpoints
    step = int(checkpoint.name.split("-")[1])
    assert main([*flags, "--max_steps", str(step + 1)]) == 0
    assert f"(step {step})" in capsys.readouterr().out
