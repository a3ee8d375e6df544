"""Write a page about a run, or one that compares several: a single HTML file that opens anywhere, without a network."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output_dir", nargs="+", help="run directories; several are compared")
    parser.add_argument("--output", help="where the page goes (default: report.html in the first run directory)")
    parser.add_argument("--average", action="store_true", help="the mean over runs that differ in the seed alone")
    parser.add_argument("--title", help="the page's title (default: the runs' names)")
    parser.add_argument("--serve", action="store_true", help="serve the page on 127.0.0.1 and keep it up to date")
    parser.add_argument("--port", type=int, default=0, help="with --serve: the port (default: a free one)")


def run(args: argparse.Namespace) -> int:
    """Raises ``ConfigError`` if a folder holds no run, or the page can't be written or served."""
    from grpo_project.errors import ConfigError
    from grpo_project.record.durable import write_atomically
    from grpo_project.reports.page import page_html
    from grpo_project.reports.page_data import open_runs, page_data

    if args.output and Path(args.output).suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"--output {args.output}: the page is HTML; name a .html file (a browser prints it, and saves its charts)"
        )
    readers = open_runs([Path(folder) for folder in args.output_dir])
    title = args.title or ", ".join(reader.name for reader in readers)
    if args.serve:
        return serve(args, title)
    page = page_html(title, page_data(readers, average=args.average))
    target = Path(args.output) if args.output else readers[0].folder / "report.html"
    try:
        write_atomically(target, page.encode(), through_power_loss=False)
    except OSError as error:
        raise ConfigError(f"--output {target} can't be written: {error.strerror}") from error
    print(target)
    return 0


def serve(args: argparse.Namespace, title: str) -> int:
    """Serve until Ctrl-C."""
    from grpo_project.errors import ConfigError
    from grpo_project.reports.live import LiveData, ReportServer

    data = LiveData([Path(folder) for folder in args.output_dir], average=args.average)
    try:
        server = ReportServer(title, data, args.port)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--port {args.port} can't be used: {error}") from error
    print(f"{server.url}\nServing until Ctrl-C. The run directory is only read.", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return 0
