"""Programs that read standard input and print their answer: one process a test, the output compared outside."""

from __future__ import annotations

import fcntl
import os

from grpo_project.verifier.cage.cage import Cage
from grpo_project.verifier.cage.session import Output, Session, Stopped
from grpo_project.verifier.python.calls import exception_of, record_of
from grpo_project.verifier.python.compare import same_output
from grpo_project.verifier.python.grader import Grader, brief, candidate_seed, status_of, told
from grpo_project.verifier.room import Result


class StdioGrader(Grader):
    """Each distinct input is run once, in a process of its own."""

    def grade(self, cage: Cage, program: str, seed: bytes) -> tuple[list[Result], float]:
        runs: dict[str, tuple[Result, str]] = {}

        def judged(index: int) -> Result:
            stdin, expected = self.tests[index]
            if stdin not in runs:
                runs[stdin] = self._run(cage, program, candidate_seed(seed), stdin)
            return self._judge(*runs[stdin], stdin, expected)

        results = self.each(range(len(self.tests)), judged)
        return results, sum(ran.cpu_s for ran, _ in runs.values())

    def _judge(self, ran: Result, output: str, stdin: str, expected: str) -> Result:
        status, message = ran.status, ran.message
        if status == "passed" and not same_output(expected, output, self.comparison.float_tolerance):
            status = "failed"
        result = Result(status, message, input=brief(stdin), expected=brief(expected), got=brief(output))
        result.cpu_s = ran.cpu_s
        return result

    def _run(self, cage: Cage, program: str, seed: bytes, stdin: str) -> tuple[Result, str]:
        """How one run ended ("passed": with exit code 0) and what it printed."""
        source = _readable(stdin)
        reader, writer = os.pipe()
        try:
            order = {"mode": "program", "program": program, "seed": seed}
            with Session(cage, self.limits, order, (source, writer)) as session:
                os.close(writer)
                writer = -1
                output = Output(reader, self.limits.output_bytes)
                result = _watch(session, output)
            result.cpu_s = session.cpu_s
            return result, output.text()
        finally:
            for descriptor in (source, reader, writer):
                if descriptor >= 0:
                    os.close(descriptor)


def _watch(session: Session, output: Output) -> Result:
    try:
        session.until_end(output)
    except Stopped as stopped:
        return Result(stopped.status, stopped.message)
    finally:
        output.drain()
    if output.overflowed:
        return Result("error", f"the program printed more than {output.limit} bytes")
    assert session.outcome is not None
    code = os.waitstatus_to_exitcode(session.outcome.status)
    if code == 0:
        return Result("passed")
    return _raised(session) or Result("error", f"the program ended with {session.outcome.text}")


def _raised(session: Session) -> Result | None:
    """What the program raised, as its own process tells it: for people; that it failed is known without."""
    try:
        record = record_of(session.payload(0.0, "the program"))
    except Stopped:
        return None
    match record:
        case ["raised", list() as names, str() as text, int() as line]:
            error = exception_of(names, text, line)
            return Result(status_of(error), told(error))
    return None


def _readable(text: str) -> int:
    """A descriptor that reads ``text`` from its start. Nothing can be written to it: there is no /proc here to open it
    for reading only, so its content is sealed."""
    memory = os.memfd_create("stdin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(memory, "wb", closefd=False) as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, seals)
    os.lseek(memory, 0, os.SEEK_SET)
    return memory
