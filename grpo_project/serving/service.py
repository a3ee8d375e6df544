"""The HTTP service: completions in, verdicts out, over a bounded queue.

A request is answered with all its verdicts or with an error: nothing is answered in part, and a failure of our own side
is a status of 500 or above, never a verdict that failed. A client may ask again: the same program against the
same tests has the same verdict.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from grpo_project import __version__
from grpo_project.errors import DataError, InfrastructureError
from grpo_project.problems.formats import problem_from_row
from grpo_project.problems.problem import Problem
from grpo_project.rewards.function import OURS
from grpo_project.verifier import Job, Verdict, Verifier

MAX_BODY_BYTES = 64 << 20
MAX_COMPLETIONS = 1024
RETRY_AFTER_S = 1


class Question(BaseModel):
    """What is to be judged: completions of one problem, which is named or sent along."""

    model_config = ConfigDict(extra="forbid")

    problem: dict[str, Any] | str = Field(
        description="A problem's row in any format of problem files, or the id of one of the service's own."
    )
    completions: list[str] = Field(min_length=1, max_length=MAX_COMPLETIONS)
    reward: str = Field("pass_rate", description=f"One of {', '.join(OURS)}. The completions are taken for one group.")
    timeout_s: float | None = Field(None, gt=0, description="Seconds after which the request is answered with 504.")


class TestAnswer(BaseModel):
    status: str
    message: str
    input: str
    expected: str
    got: str


class VerdictAnswer(BaseModel):
    status: str
    passed: int
    total: int
    pass_rate: float
    solved: bool
    reward: float
    code: str | None
    message: str
    tests: list[TestAnswer]


class Answer(BaseModel):
    """One verdict for each completion, in order."""

    verdicts: list[VerdictAnswer]


class Health(BaseModel):
    isolation: str
    workers: int
    waiting: int
    """Completions that are accepted and not answered yet."""
    queue: int
    jobs: int


def build_service(
    verifier: Verifier,
    *,
    problems: dict[str, Problem] | None = None,
    queue: int = 4096,
    timeout_s: float = 300.0,
    token: str | None = None,
) -> FastAPI:
    """The application, for any ASGI server.

    Args:
        problems: what ids stand for.
        queue: completions that are accepted at a time; more are answered with 503 and ``Retry-After``.
        timeout_s: of a request that names none, and the most that one may name.
        token: what ``Authorization: Bearer`` has to hold; ``None`` asks for nothing.
    """
    waiting = 0

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(lambda: verifier.isolation)  # the workers start, and what forbids that is told now
        yield
        verifier.close()

    def authorised(
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))],
    ) -> None:
        if token is not None and (given is None or not hmac.compare_digest(given.credentials.encode(), token.encode())):
            raise HTTPException(401, "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    service = FastAPI(title="grpo serve", version=__version__, summary="Judges code against tests.", lifespan=lifespan)

    @service.middleware("http")
    async def bounded(request: Request, call_next: Callable[..., Any]) -> Any:
        length = request.headers.get("content-length")
        if request.method == "POST" and (length is None or not length.isdigit() or int(length) > MAX_BODY_BYTES):
            return JSONResponse(
                {"detail": f"a body of at most {MAX_BODY_BYTES} bytes, with its length, is wanted"}, 413
            )
        return await call_next(request)

    @service.get("/health", dependencies=[Depends(authorised)])
    async def health() -> Health:
        """Whether the service is there, and how much waits."""
        counts = verifier.counts
        isolation = await asyncio.to_thread(lambda: verifier.isolation)
        return Health(isolation=isolation, workers=verifier.workers, waiting=waiting, queue=queue, jobs=counts["jobs"])

    @service.post(
        "/verify",
        dependencies=[Depends(authorised)],
        responses={
            401: {"description": "The token is missing or wrong."},
            413: {"description": "The body is too large."},
            422: {"description": "The question can't be read, or the problem can't be judged."},
            500: {"description": "Our own side failed: nothing is known of the completions. Ask again."},
            503: {"description": "The queue is full: ask again after Retry-After seconds."},
            504: {"description": "Not done in time: ask again."},
        },
    )
    async def verify(question: Question) -> Answer:
        """Judge completions of one problem."""
        nonlocal waiting
        jobs = jobs_of(question, problems or {})
        if waiting + len(jobs) > queue and waiting:
            raise HTTPException(503, f"{waiting} completions wait already", {"Retry-After": str(RETRY_AFTER_S)})
        waiting += len(jobs)
        try:
            async with asyncio.timeout(min(timeout_s, question.timeout_s or timeout_s)):
                verdicts = await judged(verifier, jobs)
        except TimeoutError:
            raise HTTPException(504, "not judged in time; ask again") from None
        except DataError as error:
            raise HTTPException(422, str(error)) from error
        except InfrastructureError as error:
            raise HTTPException(500, str(error)) from error
        finally:
            waiting -= len(jobs)
        rewards = OURS[question.reward].of_group(verdicts)
        return Answer(verdicts=[answer_of(v, r) for v, r in zip(verdicts, rewards, strict=True) if r is not None])

    return service


def jobs_of(question: Question, problems: dict[str, Problem]) -> list[Job]:
    """Raises ``HTTPException`` (422) for a problem that is none, or a reward that is not known."""
    if question.reward not in OURS:
        raise HTTPException(422, f"reward {question.reward!r}: known are {', '.join(OURS)}")
    if isinstance(question.problem, str):
        if question.problem not in problems:
            raise HTTPException(422, f"no problem {question.problem!r} here; send its row, or start with --dataset")
        problem = problems[question.problem]
    else:
        try:
            problem = problem_from_row(json.dumps(question.problem))
        except DataError as error:
            raise HTTPException(422, str(error)) from error
    return [Job(problem, completion, f"{number}") for number, completion in enumerate(question.completions)]


async def judged(verifier: Verifier, jobs: list[Job]) -> list[Verdict]:
    """In the order of the jobs. A request that nobody waits for any more lets go of its jobs in the queue."""
    found: dict[str, Verdict] = {}
    async for verdict in verifier.stream_async(jobs):
        found[verdict.job_id] = verdict
    return [found[job.id] for job in jobs]


def answer_of(verdict: Verdict, reward: float) -> VerdictAnswer:
    def text(value: str) -> str:  # a program's output may hold half of a surrogate pair, which has no UTF-8
        return value.encode("utf-8", "backslashreplace").decode()

    return VerdictAnswer(
        status=verdict.status.value,
        passed=verdict.passed,
        total=verdict.total,
        pass_rate=verdict.pass_rate,
        solved=verdict.solved,
        reward=reward,
        code=None if verdict.code is None else text(verdict.code),
        message=text(verdict.message),
        tests=[
            TestAnswer(
                status=test.status.value,
                message=text(test.message),
                input=text(test.input),
                expected=text(test.expected),
                got=text(test.got),
            )
            for test in verdict.tests
        ],
    )
