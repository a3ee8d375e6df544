"""Does to real training runs what sick machines do, and prints what becomes of each: the table of `make faults`.

    python tests/integration/faults.py

Damage of each kind of file, errors of the disk that pass and that last, a full disk (a small tmpfs: needs the right to
mount one), two starts at once, clocks that jump. After each the same command runs again without the fault; what comes
out is compared with the run that nothing happened to, as in ``chaos``.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chaos import fork, left_alone
from chaos_configurations import SMALL
from run_differences import differences

from grpo_project.record import durable

FLAGS = [*SMALL, "--max_steps", "6", "--save_steps", "2", "--eval_every_n_steps", "2", "--log_level", "passive"]
DISK_MB = 80


@dataclass
class Ended:
    """A start that is over."""

    code: int
    said: str

    @property
    def line(self) -> str:
        """What it said last: the one line for the user, where it ended with an error."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        return lines[-1] if lines else ""


class Bench:
    """Makes runs in a folder, from what a killed run left behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alone = folder / "alone"
        self.halfway = folder / "halfway"
        self.run = folder / "run"
        self.number = 0

    def prepare(self) -> None:
        """The run that nothing happens to, and one that was killed after four of six steps."""
        left_alone(FLAGS, self.folder)
        self.kill_at(self.halfway, 5)

    def kill_at(self, output_dir: Path, step: int) -> None:
        pid = self.begin(output_dir=output_dir)
        wait_for_row(output_dir, step, pid)
        os.kill(pid, 9)
        os.waitpid(pid, 0)

    def halfway_copy(self) -> Path:
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.halfway, self.run)
        return self.run

    def begin(self, *more: str, output_dir: Path | None = None, first: Callable[[], None] | None = None) -> int:
        """Fork a start; ``first`` is called in the child. Returns its pid."""
        self.number += 1
        argv = [*FLAGS, *more, "--output_dir", str(output_dir or self.run)]
        return fork(argv, self.folder / f"{self.number}.log", first)

    def start(self, *more: str, first: Callable[[], None] | None = None) -> Ended:
        return self.ended(self.begin(*more, first=first), self.number)

    def ended(self, pid: int, number: int) -> Ended:
        _, status = os.waitpid(pid, 0)
        return Ended(os.waitstatus_to_exitcode(status), (self.folder / f"{number}.log").read_text())

    def different(self, *lost: str) -> list[str]:
        """What differs from the run that nothing happened to, beside what the fault itself took (``lost``)."""
        return [what for what in differences(self.alone, self.run) if not what.startswith(lost or ("\0",))]


def expect(condition: bool, what: str, ended: Ended | None = None) -> None:
    if not condition:
        raise AssertionError(what if ended is None else f"{what} (exit {ended.code}): {ended.said[-1500:]}")


def require_equal(bench: Bench, *lost: str) -> None:
    found = bench.different(*lost)
    expect(not found, f"{len(found)} differences: {found[:4]}")


def wait_for_row(output_dir: Path, step: int, pid: int) -> None:
    """Until the journal has the train row of ``step``."""
    metrics = output_dir / "journal" / "metrics.jsonl"
    while True:
        with contextlib.suppress(FileNotFoundError):
            if f'"step":{step},'.encode() in metrics.read_bytes():
                return
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            raise AssertionError(f"the run ended before step {step}")
        time.sleep(0.01)


# Damage

DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "missing": lambda content: None,
    "bit flipped": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 4]) + content[len(content) // 2 + 1 :]
    ),
    "zeroed": lambda content: bytes(len(content)),
}
CHECKPOINT_FILES = ("model.safetensors", "optimizer.pt", "grpo_state_0.pt", "trainer_state.json", "manifest.json")


def do_damage(path: Path, how: str) -> None:
    content = DAMAGES[how](path.read_bytes())
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


def damaged_checkpoint(bench: Bench, name: str, how: str) -> str:
    do_damage(bench.halfway_copy() / "checkpoint-4" / name, how)
    ended = bench.start()
    expect(ended.code == 0, "the checkpoint before was not used", ended)
    expect("checkpoint-4 is damaged" in ended.said and name in ended.said, "the damage was not named", ended)
    require_equal(bench)
    return "named and set aside, step 2's is used"


def every_checkpoint_damaged(bench: Bench) -> str:
    run = bench.halfway_copy()
    for checkpoint in run.glob("checkpoint-*"):
        do_damage(checkpoint / "model.safetensors", "bit flipped")
    before = contents(run)
    ended = bench.start()
    expect(ended.code == 2 and "is whole" in ended.line, "not refused in one line", ended)
    expect(contents(run) == before, "something was changed")
    return "exit 2, one line, nothing changed"


def damaged_record(bench: Bench, pattern: str, how: str, *lost: str) -> str:
    """A file beside the checkpoints: it may cost that record, never the training."""
    for path in sorted(bench.halfway_copy().glob(pattern))[:1]:
        do_damage(path, how)
        break
    else:
        raise AssertionError(f"no {pattern} in the run")
    ended = bench.start()
    expect(ended.code == 0, "the run did not go on", ended)
    require_equal(bench, *lost)
    return "goes on, exact" + (f"; lost: {', '.join(lost)} of the damaged piece" if lost else "")


def damaged_run_record(bench: Bench, content: bytes) -> str:
    run = bench.halfway_copy()
    kept = (run / "run.json").read_bytes()
    (run / "run.json").write_bytes(content)
    before = contents(run)
    ended = bench.start()
    expect(ended.code == 2 and "run.json" in ended.line, "not refused in one line", ended)
    expect(contents(run) == before, "something was changed")
    (run / "run.json").write_bytes(kept)
    return goes_on(bench, "exit 2, one line, nothing changed")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def goes_on(bench: Bench, said: str, *lost: str) -> str:
    """The same command, the fault gone."""
    again = bench.start()
    expect(again.code == 0, "the same command does not go on", again)
    require_equal(bench, *lost)
    return f"{said}; then goes on, exact"


# A disk with errors


class Faulty:
    """Stands before calls of the operating system and lets those on one file fail."""

    def __init__(self, part: str, number: int, times: int) -> None:
        self.part, self.number, self.left = part, number, times

    def install(self) -> None:
        for name in ("write", "fsync"):
            setattr(os, name, self.before(getattr(os, name)))
        durable.RETRY_WAITS_S = (0.05, 0.1, 0.1, 0.1)

    def before(self, call: Callable[..., int]) -> Callable[..., int]:
        def faulty(file: int, *arguments: bytes) -> int:
            if self.left > 0 and self.part in os.readlink(f"/proc/self/fd/{file}"):
                self.left -= 1
                raise OSError(self.number, os.strerror(self.number))
            return call(file, *arguments)

        return faulty


def passing_error(bench: Bench, part: str) -> str:
    bench.halfway_copy()
    ended = bench.start(first=Faulty(part, errno.EIO, 2).install)
    expect(ended.code == 0, "a passing error ended the run", ended)
    require_equal(bench)
    return "tried again, exact"


def lasting_error(bench: Bench, part: str) -> str:
    bench.halfway_copy()
    ended = bench.start(first=Faulty(part, errno.EIO, 10**9).install)
    expect(ended.code == 70, "not an infrastructure failure", ended)
    expect("Traceback" not in ended.said, "a traceback", ended)
    return goes_on(bench, "exit 70, one line")


def lasting_error_in_a_checkpoint(bench: Bench) -> str:
    bench.halfway_copy()
    ended = bench.start(first=Faulty("checkpoint-6/", errno.EIO, 10**9).install)
    said = ended.said.replace("\n", " ")
    expect(ended.code == 0 and "may not outlive" in said, "the failed flush ended the run, or was not said", ended)
    expect((bench.run / "checkpoint-4").is_dir(), "the checkpoint before is gone")
    require_equal(bench)
    return "said; training ends, exact; the checkpoint before stays"


# A full disk

FINISHED = "finished without its last checkpoints"


@contextlib.contextmanager
def small_disk(bench: Bench, megabytes: int) -> Iterator[None]:
    """``bench.run`` lies on a disk of its own."""
    shutil.rmtree(bench.run, ignore_errors=True)
    bench.run.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(bench.run)]
    if subprocess.run(mount, capture_output=True).returncode:
        raise SkippedError("no right to mount a tmpfs; run as root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(bench.run)], check=True)
        bench.run.rmdir()


def fill(folder: Path, leave_kb: int = 0) -> None:
    """Leave so many kilobytes."""
    disk = os.statvfs(folder)
    room = disk.f_bavail * disk.f_frsize - leave_kb * 1024
    with open(folder / "filler", "wb") as file, contextlib.suppress(OSError):
        while room > 0:
            room -= file.write(bytes(min(room, 1 << 20)))
            file.flush()


def full_disk(bench: Bench, step: int, leave_kb: int) -> str:
    """It fills up once ``step`` is in the journal."""
    with small_disk(bench, DISK_MB):
        pid, number = bench.begin(), bench.number
        wait_for_row(bench.run, step, pid)
        fill(bench.run, leave_kb)
        ended = bench.ended(pid, number)
        said = full_disk_said(bench, ended)
        (bench.run / "filler").unlink()
        return goes_on(bench, said, *(["last checkpoint"] if said == FINISHED else []))


def full_disk_said(bench: Bench, ended: Ended) -> str:
    expect(not (bench.run / ".staging").exists(), "staging was left on the disk", ended)
    expect("Traceback" not in ended.said, "a traceback", ended)
    if ended.code == 0:  # it had finished before the disk was full for the record and the model too
        return FINISHED
    expect(ended.code == 70, "not exit 70", ended)
    expect("disk full" in ended.line and "same command" in ended.line, "not the one line", ended)
    return "exit 70, 'disk full', staging removed"


def full_disk_at_start(bench: Bench) -> str:
    with small_disk(bench, DISK_MB):
        shutil.copytree(bench.halfway, bench.run, dirs_exist_ok=True)
        fill(bench.run)
        said = full_disk_said(bench, bench.start())
        (bench.run / "filler").unlink()
        return goes_on(bench, said)


def disk_too_small_for_a_second_checkpoint(bench: Bench) -> str:
    """What a user sees who counted wrong: the first save fits, the second does not."""
    with small_disk(bench, 24):
        ended = bench.start()
        expect("NOT saved" in ended.said, "not said", ended)
        said = full_disk_said(bench, ended)
        subprocess.run(["mount", "-o", "remount,size=200m", str(bench.run)], check=True)
        return goes_on(bench, f"'NOT saved'; {said}", *(["last checkpoint"] if said == FINISHED else []))


# Two starts, clocks


def two_starts(bench: Bench, *, new: bool) -> str:
    if new:
        shutil.rmtree(bench.run, ignore_errors=True)
    else:
        bench.halfway_copy()
    pids = []
    for _ in range(2):
        pids.append((bench.begin(), bench.number))
    both = sorted((bench.ended(*pid) for pid in pids), key=lambda ended: ended.code)
    expect(both[0].code == 0, "none of the two trained", both[0])
    if both[1].code == 0:  # the second came when the first was done, or said that nothing is to do
        expect("finished" in both[1].said, "both trained", both[1])
    else:
        expect(both[1].code == 2 and "another process" in both[1].line, "not refused in one line", both[1])
    require_equal(bench)
    return "one trains, exact; the other: exit 2, one line"


def clock_jumps(bench: Bench, jump_s: float) -> str:
    bench.halfway_copy()

    def install() -> None:
        real, calls = time.time, iter(range(10**9))
        time.time = lambda: real() + (jump_s if next(calls) % 2 else 0)

    ended = bench.start(first=install)
    expect(ended.code == 0, "the run ended", ended)
    require_equal(bench)
    return "goes on, exact"


class SkippedError(Exception):
    """This machine can't show it."""


def cases() -> Iterator[tuple[str, Callable[[Bench], str]]]:
    for name in CHECKPOINT_FILES:
        how = "missing" if name == "grpo_state_0.pt" else "bit flipped"
        yield f"checkpoint's {name}: {how}", lambda bench, n=name, h=how: damaged_checkpoint(bench, n, h)
    for how in ("truncated", "emptied", "zeroed"):
        yield f"checkpoint's optimizer.pt: {how}", lambda bench, h=how: damaged_checkpoint(bench, "optimizer.pt", h)
    yield "every checkpoint: bit flipped", every_checkpoint_damaged
    for content in (b"", b"[1, 2]", b'{"run_id": "x"}', b"\xff\xfe"):
        yield f"run.json: {content!r}", lambda bench, c=content: damaged_run_record(bench, c)
    for pattern, how, *lost in (
        ("samples/*.jsonl", "truncated", "samples"),
        ("samples/*.jsonl", "zeroed", "samples"),
        ("samples/*.jsonl", "missing", "samples"),
        ("evaluations/*.parquet", "truncated", "evaluations"),
        ("evaluations/*.parquet", "bit flipped", "evaluations"),
        ("journal/metrics.jsonl", "bit flipped", "rows"),
        ("journal/metrics.jsonl", "truncated", "rows"),
        ("journal/metrics.jsonl", "missing", "rows"),
        ("journal/events.jsonl", "truncated", "decisions", "rows", "samples"),
        ("journal/events.jsonl", "missing", "decisions", "rows", "samples"),
        ("wandb_sync_state.json", "truncated"),
        ("wandb_sync_state.json", "missing"),
    ):
        yield f"{pattern}: {how}", lambda bench, p=pattern, h=how, w=tuple(lost): damaged_record(bench, p, h, *w)
    for part in ("metrics.jsonl", "events.jsonl", "/samples/", "/evaluations/", "run.json"):
        yield f"EIO twice: {part}", lambda bench, p=part: passing_error(bench, p)
    for part in ("metrics.jsonl", "events.jsonl", "/samples/", "/evaluations/", "run.json"):
        yield f"EIO for good: {part}", lambda bench, p=part: lasting_error(bench, p)
    yield "EIO for good: a checkpoint", lasting_error_in_a_checkpoint
    yield "disk full at the start", full_disk_at_start
    for step, leave_kb in ((1, 0), (3, 0), (3, 6000), (5, 0)):
        what = f"disk full at step {step}, {leave_kb} kB left"
        yield what, lambda bench, s=step, k=leave_kb: full_disk(bench, s, k)
    yield "disk too small for a second checkpoint", disk_too_small_for_a_second_checkpoint
    yield "two starts at once, new run", lambda bench: two_starts(bench, new=True)
    yield "two starts at once, going on", lambda bench: two_starts(bench, new=False)
    yield "clock jumps back and forth by a day", lambda bench: clock_jumps(bench, -86_400.0)


def cli() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        bench.prepare()
        for name, case in cases():
            if arguments.only not in name:
                continue
            try:
                print(f"{name:48} ok    {case(bench)}", flush=True)
            except SkippedError as reason:
                print(f"{name:48} -     skipped: {reason}", flush=True)
            except AssertionError as error:
                wrong += 1
                print(f"{name:48} WRONG {error}", flush=True)
            except Exception:  # noqa: BLE001 one case that breaks the bench must not hide the others
                wrong += 1
                print(f"{name:48} WRONG {traceback.format_exc()}", flush=True)
    print(f"{wrong} wrong" if wrong else "all as they should be")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(cli())
