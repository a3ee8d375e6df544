"""What the cages hold back, one property a test: holes that were found once, and the cage of the judge itself."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grpo_project.problems.problem import AssertTest, CallTest, Problem
from grpo_project.verifier import Job, Verifier
from grpo_project.verifier.cage import kernel, machine
from grpo_project.verifier.cage.launch import LocalLauncher
from grpo_project.verifier.cage.profile import Profile
from grpo_project.verifier.python.room import Room
from grpo_project.verifier.python.spec import content_of

LEVELS = ("namespaces", "landlock")


@pytest.fixture(scope="module", params=LEVELS)
def verifier(request):
    with Verifier(workers=1, isolation=request.param, cache=False) as verifier:
        yield verifier


def fenced(code):
    return f"```python\n{code}\n```"


def answer(verifier, body, **options):
    """What a function of this body returns, as text, or how it failed."""
    problem = Problem("p", "", (CallTest((), "nothing"),), entry_point="f", **({"time_limit_s": 2.0} | options))
    (test,) = verifier.verify(Job(problem, fenced(f"def f():\n{body}"))).tests
    return test.got or test.message


def test_a_pair_of_sockets_leads_to_no_other_socket(verifier, tmp_path):
    """Datagrams can be sent to any path, with descriptors in them, which Landlock does not see."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as host:
        host.bind(path)
        os.chmod(path, 0o777)
        os.chmod(tmp_path, 0o755)
        host.settimeout(0.2)
        pair = "  import socket\n  a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        body = pair + f"  a.sendto(b'x', {path!r})"
        assert "PermissionError" in answer(verifier, body)
        with pytest.raises(TimeoutError):
            host.recv(1)
    assert (
        answer(verifier, "  import socket\n  a, b = socket.socketpair()\n  a.send(b'x')\n  return b.recv(1)") == "b'x'"
    )


def test_threads_are_counted(verifier):
    body = """\
    import threading
    stop, started = threading.Event(), 0
    threading.stack_size(65536)
    try:
        while started < 200:
            threading.Thread(target=stop.wait, daemon=True).start()
            started += 1
    except RuntimeError: pass
    return started"""
    assert 1 <= int(answer(verifier, body)) < 12
    again = """\
    import threading
    for _ in range(99):
        t = threading.Thread(target=len, args=('',))
        t.start()
        t.join()
    return 'one after the other'"""
    assert answer(verifier, again) == "'one after the other'"


def test_a_program_has_a_folder_to_write_to_and_leaves_nothing_in_it(verifier):
    body = "  import os, tempfile\n  with open('left', 'w') as f: f.write('x')\n"
    body += "  with tempfile.TemporaryFile() as f: f.write(b'x')\n"
    assert answer(verifier, body + "  os.mkdir('d')\n  return os.listdir('.')") in ("['left', 'd']", "['d', 'left']")
    assert answer(verifier, "  import os\n  return os.listdir('.')") == "[]"


def test_what_is_written_is_bounded():
    """Where the scratch folder is the host's, by the number of files and the size of each."""
    body = """\
    import os
    sizes = []
    try:
        for number in range(1000):
            with open(str(number), 'wb') as file:
                sizes.append(file.write(b'x' * (1 << 20)))
    except OSError: pass
    return len(sizes)"""
    with Verifier(workers=1, isolation="landlock", cache=False) as verifier:
        assert int(answer(verifier, body)) <= 16


def test_scratch_folders_end_with_the_verifier():
    with Verifier(workers=1, isolation="landlock") as verifier:
        assert answer(verifier, "  return 1") == "1"
        servers = [pid for pid in descendants(os.getpid()) if is_called("grpo-server", pid)]
        mine = [
            Path("/dev/shm", name) for name in os.listdir("/dev/shm") if name.split("-")[2:3] == [str(max(servers))]
        ]
        assert mine
    assert not any(folder.exists() for folder in mine)


EMPTY = """
import os, sys
from grpo_project.verifier.cage import kernel, seccomp
kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
seccomp.install(seccomp.child_filter(os.getpid()), supervised=True)
for flags in (os.O_RDONLY | os.O_TRUNC, os.O_TMPFILE | os.O_RDWR):
    try:
        os.open(sys.argv[1], flags)
        print("opened")
    except OSError as error:
        print(error.strerror)
"""


def test_opening_for_reading_empties_no_file_whatever_landlock_knows(tmp_path):
    """Before Linux 6.2 Landlock has no right for it: seccomp alone has to refuse."""
    victim = tmp_path / "file"
    victim.write_text("content")
    done = subprocess.run([sys.executable, "-c", EMPTY, str(victim)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["Permission denied", "Operation not supported"]
    assert victim.read_text() == "content"


def test_nothing_passes_from_one_candidate_to_the_next(verifier):
    flags = "  import fcntl\n  return [fcntl.fcntl(i, fcntl.F_GETFL) for i in range(3)]"
    times = "  import os\n  s = os.stat('.')\n  return s.st_atime_ns, s.st_mtime_ns, s.st_mode"
    before = answer(verifier, flags), answer(verifier, times)
    answer(verifier, "  import fcntl\n  for i in range(3): fcntl.fcntl(i, fcntl.F_SETFL, 0o6000)")
    answer(verifier, "  import os\n  os.utime('.', ns=(1, 2))")
    answer(verifier, "  with open('x', 'w'): pass\n  import os\n  os.unlink('x')")
    assert (answer(verifier, flags), answer(verifier, times)) == before


def test_an_answer_of_many_records_is_bounded_in_sum(verifier):
    """Each one is as large as it may be; the judge would keep them all."""
    flood = """\
import os, struct
def put(b):
    b = memoryview(struct.pack("!I", len(b)) + b)
    while b: b = b[os.write(3, b):]
put(b'["loaded",true]')
record = b'["value","' + b"x" * 8_000_000 + b'"]'
for _ in range(100): put(record)
os._exit(0)
"""
    tests = tuple(CallTest((n,), n) for n in range(100))
    verdict = verifier.verify(Job(Problem("p", "", tests, entry_point="f", time_limit_s=5.0), fenced(flood)))
    assert verdict.passed == 0
    assert "bytes in all" in verdict.tests[-1].message


REFUSED = {
    "a file outside": "open('/etc/hostname').read()",
    "a file of the user's": "open(HOME + '/grpo-probe', 'w').write('x')",
    "a folder outside": "os.listdir(HOME)",
    "a file in the library": "open(os.__file__, 'a')",
    "the network": "socket.create_connection(('127.0.0.1', 9))",
    "a program": "os.execv('/bin/true', ['true'])",
    "a process": "os.fork()",
    "a signal": "os.kill(os.getppid(), 0)",
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_problems_own_test_code_is_confined(verifier, name, tmp_path):
    """A downloaded problem file is code: it runs outside of the candidate's cage, in the judge's."""
    os.chmod(tmp_path, 0o777)
    source = f"import os, socket\nHOME = {str(tmp_path)!r}\ntry:\n    {REFUSED[name]}\nexcept OSError:\n    pass\n"
    test = AssertTest(source + "else:\n    raise AssertionError('it was not refused')\nassert f() == 1")
    verdict = verifier.verify(Job(Problem("p", "", (test,), entry_point="f"), "def f(): return 1"))
    assert verdict.solved, verdict.tests
    assert list(tmp_path.iterdir()) == []


def test_test_code_has_a_folder_to_write_to_which_is_cleared(verifier):
    source = (
        "import os, tempfile\nassert os.listdir(tempfile.gettempdir()) == []\n"
        "open(os.path.join(tempfile.gettempdir(), 'kept'), 'w').write('x')\nassert f() == 1"
    )
    problem = Problem("p", "", (AssertTest(source),), entry_point="f")
    verdicts = [verifier.verify(Job(problem, f"def f(): return 1 # {n}")) for n in range(2)]
    assert all(verdict.solved for verdict in verdicts), verdicts


def test_test_code_that_takes_the_judge_over_gives_no_verdict_and_ends_nothing(verifier):
    """It may write whatever it likes to the server: only what makes sense there is believed."""
    writes = "import os\nfor n in range(3, 20):\n    try: os.write(n, b'\\0\\0\\0\\3[1]')\n    except OSError: pass\n"
    source = writes + "assert f() == 1"
    problem = Problem("p", "", (AssertTest(source),), entry_point="f")
    (verdict,) = verifier.stream([Job(problem, "def f(): return 1")], keep_faults=True)
    assert verdict.status == "infrastructure"
    assert answer(verifier, "  return 1") == "1"


def descendants(pid):
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass  # it has ended meanwhile
    return found


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


def until(condition, limit_s=20.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("level", LEVELS)
def test_a_killed_server_takes_its_candidates_with_it(level):
    """A minute of CPU is allowed: nothing else would end the loop."""
    problem = Problem("p", "", (CallTest((), 1),), entry_point="f", time_limit_s=60.0)
    verifier = Verifier(workers=1, isolation=level)
    own = set(descendants(os.getpid()))
    stream = verifier.stream([Job(problem, "def f():\n    while True: pass")])
    until(lambda: any(descendants(pid) for pid in all_called("grpo-zygote", own)))  # a candidate is at work
    below = set(descendants(os.getpid())) - own
    os.kill(next(pid for pid in below if is_called("grpo-server", pid)), signal.SIGKILL)
    until(lambda: all(state_of(pid) in ("Z", "X", "gone") for pid in below))
    del stream
    verifier.close()


def all_called(name, but):
    return [pid for pid in set(descendants(os.getpid())) - but if is_called(name, pid)]


def is_called(name, pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def test_judges_that_die_leave_no_zombies(verifier):
    problem = Problem("p", "", (AssertTest("import os\nos.abort()\nf()"),), entry_point="f")
    own = set(descendants(os.getpid()))
    assert [v.status for v in verifier.stream([Job(problem, "def f(): pass")], keep_faults=True)] == ["infrastructure"]
    answer(verifier, "  return 1")
    until(lambda: not any(state_of(pid) == "Z" for pid in set(descendants(os.getpid())) - own))


def test_short_of_memory_the_kernel_would_end_candidates_first_and_the_trainer_last(verifier):
    answer(verifier, "  return 1")
    scores = {}
    for pid in descendants(os.getpid()):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        scores.setdefault(name, set()).add(int(Path(f"/proc/{pid}/oom_score_adj").read_text()))
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    assert scores["grpo-zygote"] == {1000}
    assert all(score > ours for name in ("grpo-server", "grpo-keeper", "grpo-judge") for score in scores[name])


# ---- parts on their own --------------------------------------------------------------------------------------------


@pytest.fixture
def subreaper():
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    yield
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 0)


def test_packages_beneath_tmp_are_not_hidden_by_the_cages_own_tmp(subreaper, tmp_path):
    """A Python or an environment that lies beneath /tmp; what is imported late is read from inside of the cage."""
    package = tmp_path / "grpo_probe"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "late.py").write_text("answer = 42\n")
    problem = Problem("p", "", (CallTest((), 42),), entry_point="f")
    for level in LEVELS:
        launcher = LocalLauncher(level)
        launcher.profiles["python"] = Profile(site=str(tmp_path), packages=("grpo_probe",))
        room = Room(launcher)
        program = "def f():\n    import grpo_probe.late\n    return grpo_probe.late.answer"
        try:
            graded = room.grade(room.grader(content_of(problem)[0]), program, b"")
        finally:
            room._cage.close()
            launcher.close()
        assert [result.status for result in graded.results] == ["passed"], graded.results[0].message


class ShortOfMemory(LocalLauncher):
    """A machine on which the kernel ends a process for want of memory whenever it is asked about."""

    count = 0

    def oom_kills(self):
        self.count += 1
        return self.count


def test_a_candidate_that_the_kernel_ended_for_want_of_memory_is_not_at_fault_at_once(subreaper):
    problem = Problem("p", "", (CallTest((), 1),), entry_point="f")
    dies = "import os\ndef f(): os.kill(os.getpid(), 9)"
    for launcher, expected in (
        (ShortOfMemory("landlock"), (True, "memory")),
        (LocalLauncher("landlock"), (False, "error")),
    ):
        room = Room(launcher)
        try:
            graded = room.grade(room.grader(content_of(problem)[0]), dies, b"")
        finally:
            room._cage.close()
            launcher.close()
        assert (graded.out_of_memory, graded.results[0].status) == expected


def test_workers_are_shared_among_ranks_and_bounded_by_the_quota(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    cores = len(os.sched_getaffinity(0))
    assert machine.workers() <= cores
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(2 * cores))
    assert machine.workers() == 1
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/cpu.max").write_text("150000 100000\n")
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    assert machine.cpu_quota(str(tmp_path), "0::/a/b\n") == 1.5
    assert machine.cpu_quota(str(tmp_path), "0::/elsewhere\n") is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert machine.cpu_quota(str(tmp_path), "4:cpu,cpuacct:/docker/x\n") == 0.5


def test_waiting_for_a_cpu_is_seen_and_sleeping_is_not():
    core = {min(os.sched_getaffinity(0))}
    spin = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=lambda: os.sched_setaffinity(0, core))
        for _ in range(2)
    ]
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        until(lambda: all(machine.run_queue_delay(process.pid)[0] > 0.1 for process in spin))
        assert machine.run_queue_delay(spin[0].pid)[1]
        until(lambda: not machine.run_queue_delay(sleeper.pid)[1])
    finally:
        for process in (*spin, sleeper):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_busy_machine_fails_no_right_program():
    """Sixteen on one core, each of which uses most of its limit: each waits longer than the wall cap."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        problem = Problem("p", "", (CallTest((1,), 1),), entry_point="f", time_limit_s=0.5)
        body = "    end = time.process_time() + 0.35\n    while time.process_time() < end: pass\n    return 1"
        program = "import time\ndef f(x):\n" + body
        with Verifier(workers=16) as verifier:
            verdicts = verifier.verify_many([Job(problem, fenced(f"{program}  # {n}")) for n in range(16)])
    finally:
        os.sched_setaffinity(0, cores)
    assert [verdict.status for verdict in verdicts] == ["passed"] * 16
