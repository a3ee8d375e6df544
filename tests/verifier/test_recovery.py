"""Our own processes may die at any moment: no verdict is lost or wrong for it, and nothing is left behind."""

import asyncio
import concurrent.futures
import dataclasses
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grpo_project.errors import ConfigError, SandboxError
from grpo_project.problems.problem import CallTest, Problem
from grpo_project.verifier import Job, Status, Verifier

TESTS = (CallTest((5, 0, 3), 3), CallTest((1, 0, 3), 1))
PROBLEM = Problem("clip", "Clip.", TESTS, entry_point="clip", time_limit_s=1.0)


def answer(number, right=True):
    """A program of its own for each number, so that neither cache nor batch makes two into one."""
    return f"def clip(x, lo, hi):\n    return max(lo, min(x, hi)) {'' if right else '+ 1'}  # {number}\n"


def descendants(pid):
    """Every process below ``pid``, by its parent links."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents[int(entry.name)] = int(fields[1])
    found, layer = [], [pid]
    while layer:
        layer = [child for child, parent in parents.items() if parent in layer]
        found += layer
    return found


def server_of(verifier):
    verifier.verify(Job(PROBLEM, answer(0)))
    own = [
        pid
        for pid in descendants(os.getpid())
        if parent_of(pid) == os.getpid() and b" engine.server " in command_of(pid)
    ]
    return max(own, key=started)


def started(pid):
    """When a process was started, in clock ticks. Process ids are no measure of it: they begin again at some point."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


def kill_one(victims, number):
    """SIGKILL to one of them; a candidate may have ended on its own since it was listed."""
    try:
        os.kill(victims[number % len(victims)], signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except (FileNotFoundError, ProcessLookupError):
        return b""


def parent_of(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def gone(pids, limit_s=20.0):
    """Whether all of these end within the limit (a zombie counts as ended)."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def verifier(request):
    with Verifier(workers=2, isolation=request.param, cache=False) as verifier:
        yield verifier


def test_verdicts_are_right_while_workers_are_killed(verifier):
    """Judges and zygotes both: everything below the server is fair game, whatever it is doing."""
    server = server_of(verifier)
    jobs = [Job(PROBLEM, answer(number, right=number % 3 > 0)) for number in range(120)]
    stream = verifier.stream(jobs)
    verdicts, killed = {}, 0
    for count, verdict in enumerate(stream):
        verdicts[verdict.job_id] = verdict.solved
        if count % 20 == 10:
            killed += kill_one(descendants(server), count)
    assert killed > 0
    assert [verdicts[job.id] for job in jobs] == [number % 3 > 0 for number in range(120)]


@pytest.mark.parametrize("isolation", ["namespaces", "landlock"])
def test_a_candidate_ends_with_its_zygote_and_the_judge_goes_on(isolation):
    """The candidate's CPU limit, a minute here, is not what ends it."""
    problem = dataclasses.replace(PROBLEM, time_limit_s=60.0)
    with Verifier(workers=1, isolation=isolation, cache=False) as verifier:
        server = server_of(verifier)
        zygote = descendants(server)[-1]
        judge = parent_of(zygote)
        stream = verifier.stream([Job(problem, "def clip(*a):\n    while True: pass\n")])
        deadline = time.monotonic() + 20
        while not (candidates := [pid for pid in descendants(zygote) if cpu_ticks(pid) > 0]):
            assert time.monotonic() < deadline
        os.kill(zygote, signal.SIGKILL)
        assert gone(candidates)
        while not set(descendants(judge)) - {zygote, *candidates}:  # the next attempt, by the same judge
            assert time.monotonic() < deadline
        del stream


def cpu_ticks(pid):
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])
    except (FileNotFoundError, ProcessLookupError):
        return 0


SLEEPS = "import time\ndef clip(*a):\n    time.sleep(60)\n"


def test_a_dead_server_is_started_again_and_nothing_is_lost(verifier):
    jobs = [Job(PROBLEM, answer(number, right=number % 3 > 0)) for number in range(30)]
    server = server_of(verifier)
    stream = verifier.stream(jobs)
    verdicts = {}
    for count, verdict in enumerate(stream):
        verdicts[verdict.job_id] = verdict.solved
        if count == 5:
            os.kill(server, signal.SIGKILL)
    assert [verdicts[job.id] for job in jobs] == [number % 3 > 0 for number in range(30)]


def servers_killed(verifier, count):
    """Whoever waits for a verdict meanwhile sees so many servers die."""
    for _ in range(count):
        deadline = time.monotonic() + 20
        while not (servers := [pid for pid in descendants(os.getpid()) if b" engine.server " in command_of(pid)]):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        for pid in servers:
            kill_one([pid], 0)
        assert gone(servers)


@pytest.mark.parametrize("keep_faults", [False, True])
def test_a_fault_of_ours_is_never_a_reward(keep_faults):
    """With all attempts used up it is an error, or a verdict that says so and no more; the next job is judged."""
    problem = dataclasses.replace(PROBLEM, time_limit_s=30.0)
    with Verifier(workers=2, cache=True) as verifier:
        verifier.verify(Job(PROBLEM, answer(0)))
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            killing = thread.submit(servers_killed, verifier, 3)
            stream = verifier.stream([Job(problem, SLEEPS), Job(problem, SLEEPS + "#")], keep_faults=keep_faults)
            if keep_faults:
                verdicts = list(stream)
                assert [verdict.status for verdict in verdicts] == [Status.INFRASTRUCTURE] * 2
                assert all(math.isnan(verdict.pass_rate) and not verdict.solved for verdict in verdicts)
                assert len(verdicts[0].tests) == len(TESTS)
            else:
                with pytest.raises(SandboxError):
                    next(stream)
            killing.result()
        assert verifier.verify(Job(PROBLEM, answer(1))).solved
        assert verifier.verify(Job(PROBLEM, SLEEPS)).status == "timeout"  # the fault was not remembered


def test_everything_ends_with_the_verifier():
    verifier = Verifier(workers=2)
    server = server_of(verifier)
    below = [server, *descendants(server)]
    assert len(below) >= 5  # the server, two judges, two zygotes
    descriptors = len(os.listdir("/proc/self/fd"))
    verifier.close()
    assert gone(below)
    assert len(os.listdir("/proc/self/fd")) < descriptors


def test_everything_ends_when_the_owner_is_killed(tmp_path):
    script = (
        "import time\nfrom tests_of import job\nfrom grpo_project.verifier import Verifier\n"
        "verifier = Verifier(workers=2)\nverifier.verify(job)\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    (tmp_path / "tests_of.py").write_text(
        "from grpo_project.problems.problem import CallTest, Problem\nfrom grpo_project.verifier import Job\n"
        "job = Job(Problem('p', '', (CallTest((1,), 1),), entry_point='f'), 'def f(x):\\n    return x')\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(tmp_path)}
    )
    with owner:
        assert owner.stdout.readline() == b"ready\n"
        below = descendants(owner.pid)
        assert len(below) >= 5
        owner.kill()
    assert gone(below)


def test_a_forked_child_has_workers_of_its_own(verifier):
    assert verifier.verify(Job(PROBLEM, answer(1))).solved
    child = os.fork()
    if child == 0:
        try:
            solved = verifier.verify(Job(PROBLEM, answer(2))).solved
            verifier.close()
            os._exit(0 if solved else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert verifier.verify(Job(PROBLEM, answer(3))).solved


def test_several_threads_share_one_verifier(verifier):
    def work(thread):
        jobs = [Job(PROBLEM, answer(100 * thread + number, right=number % 2 == 0)) for number in range(10)]
        return [verdict.solved for verdict in verifier.verify_many(jobs)]

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for solved in threads.map(work, range(4)):
            assert solved == [True, False] * 5


def test_the_event_loop_is_not_blocked(verifier):
    async def both():
        slow = Job(PROBLEM, "import time\ndef clip(x, lo, hi):\n    time.sleep(0.2)\n    return max(lo, min(x, hi))\n")
        verdicts = await asyncio.gather(verifier.verify_async(slow), verifier.verify_async(Job(PROBLEM, answer(1))))
        return [verdict.solved for verdict in verdicts], [v.solved async for v in verifier.stream_async([slow])]

    assert asyncio.run(both()) == ([True, True], [True])


def test_a_stream_that_is_given_up_leaves_no_work(verifier):
    stream = verifier.stream([Job(PROBLEM, answer(number)) for number in range(200)])
    next(stream)
    del stream
    assert verifier.verify(Job(PROBLEM, answer(777))).solved


def test_duplicates_run_once_and_the_cache_remembers():
    with Verifier(workers=1) as verifier:
        chatter = f"Here:\n```python\n{answer(1)}```\n"
        verdicts = verifier.verify_many([Job(PROBLEM, answer(1)), Job(PROBLEM, answer(1)), Job(PROBLEM, answer(2))])
        assert verifier.counts == {"jobs": 3, "run": 2, "cached": 0, "duplicates": 1}
        again = verifier.verify(Job(PROBLEM, answer(1)))
        assert again.cached
        assert (again.passed, again.job_id) == (2, verdicts[0].job_id)
        harder = Problem("clip", "Clip.", (*TESTS, CallTest((9, 0, 1), 7)), entry_point="clip")
        assert not verifier.verify(Job(harder, answer(1))).solved  # other tests, another verdict
        assert verifier.verify(Job(PROBLEM, chatter)).solved


def test_jobs_and_verdicts_travel(verifier):
    job = Job(PROBLEM, answer(1))
    copy = pickle.loads(pickle.dumps(job))
    assert copy.id == job.id
    verdict = verifier.verify(copy)
    assert pickle.loads(pickle.dumps(verdict)) == verdict


def test_an_unknown_level_and_no_workers_are_the_user_s_errors():
    with pytest.raises(ConfigError, match="namespaces"):
        Verifier(isolation="chroot")
    with pytest.raises(ConfigError, match="at least 1"):
        Verifier(workers=0)


@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["namespaces", "landlock"])
def test_soak(isolation):
    """5,000 mixed jobs with a process killed every 50 verdicts: no wrong verdict, nothing left behind.

    A job is tried three times, so a long one must not meet a kill in each: the loops' limit is short.
    """
    short = dataclasses.replace(PROBLEM, time_limit_s=0.1)
    wrong = ["    return 1\n", "    import os\n    os._exit(0)\n", "    raise ValueError\n", "    return [lo] * 1000\n"]
    descriptors = len(os.listdir("/proc/self/fd"))
    with Verifier(workers=2, isolation=isolation, cache=False) as verifier:
        server = server_of(verifier)
        jobs = []
        for number in range(5000):
            body = wrong[number // 2 % len(wrong)] if number % 2 else "    return max(lo, min(x, hi))\n"
            loops = number % 500 == 499
            if loops:
                body = "    while True: pass\n"
            jobs.append(Job(short if loops else PROBLEM, f"def clip(x, lo, hi):  # {number}\n{body}"))
        verdicts = {}
        for count, verdict in enumerate(verifier.stream(jobs)):
            verdicts[verdict.job_id] = verdict.solved
            if count % 50 == 25:
                kill_one(descendants(server), count // 50)
        below = [server, *descendants(server)]
    assert [verdicts[job.id] for job in jobs] == [number % 2 == 0 for number in range(5000)]
    assert gone(below)
    assert len(os.listdir("/proc/self/fd")) == descriptors
