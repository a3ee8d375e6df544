"""Judge completions for trainers in any language: HTTP, JSON in and out; /docs and /openapi.json describe it.

It listens on the loopback address. Elsewhere it needs a token: $GRPO_SERVE_TOKEN, sent as `Authorization: Bearer`.
"""

from __future__ import annotations

import argparse
import ipaddress
import os

from grpo_project.commands import problem_flags
from grpo_project.errors import ConfigError

TOKEN = "GRPO_SERVE_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: the loopback address)")
    parser.add_argument("--port", type=int, default=8417, help="0 takes a free one, which is printed")
    parser.add_argument("--dataset", metavar="FILE", help=f"{problem_flags.DATASET}; requests may name them by id")
    problem_flags.add_arguments(parser)
    parser.add_argument("--queue", type=int, default=4096, metavar="N", help="completions accepted at a time; then 503")
    parser.add_argument(
        "--timeout_s", type=float, default=300.0, metavar="S", help="longest time of a request; then 504"
    )
    parser.add_argument(
        "--verifier_workers", type=int, metavar="N", help="programs run at a time (default: one a core)"
    )
    parser.add_argument(
        "--verifier_isolation", metavar="LEVEL", help="namespaces, landlock or rlimits (default: the strongest here)"
    )


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` before anything is listened to."""
    from grpo_project.verifier import Verifier

    token = os.environ.get(TOKEN) or None
    if args.queue < 1 or args.timeout_s <= 0 or not 0 <= args.port < 65536:
        raise ConfigError("--queue is at least 1, --timeout_s more than 0, --port from 0 to 65535")
    if token is None and not is_loopback(args.host):
        raise ConfigError(f"--host {args.host}: whoever reaches it could run programs here; set ${TOKEN} first")
    try:
        import uvicorn

        from grpo_project.serving.service import build_service
    except ImportError as error:
        raise ConfigError(f"grpo serve needs {error.name}: pip install 'grpo-project[serve]'") from error

    found = problem_flags.problems(args, args.dataset, "train") if args.dataset else ()
    problems = {problem.id: problem for problem in found}
    verifier = Verifier(workers=args.verifier_workers, isolation=args.verifier_isolation)
    print(f"isolation: {verifier.isolation}, {verifier.workers} workers, {len(problems)} problems", flush=True)
    service = build_service(verifier, problems=problems, queue=args.queue, timeout_s=args.timeout_s, token=token)
    server = uvicorn.Server(uvicorn.Config(service, host=args.host, port=args.port, log_level="warning"))
    socket = server.config.bind_socket()
    print(f"http://{args.host}:{socket.getsockname()[1]}", flush=True)
    server.run(sockets=[socket])
    return 0


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
