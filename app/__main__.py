"""``python -m app --checkpoint FILE --images DIR``: the workbench in a browser."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

LOCAL = "127.0.0.1"


def main(arguments: list[str] | None = None) -> int:
    o = parse(arguments)
    if o.host not in (LOCAL, "localhost") and not o.auth:
        print(
            f"--host {o.host} lets others in: give them a name and a password with --auth NAME:PASSWORD",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a service manager's way to end it: nothing is left either
    # Uploads and exports of this server alone, gone when it ends. Nothing is fetched from anywhere, nothing reported.
    place = Path(tempfile.mkdtemp(prefix="plrc-app-"))
    # OpenMP threads that spin while they wait make t-SNE several times slower where cores are busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ |= {"GRADIO_TEMP_DIR": str(place), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    try:
        return _serve(o, place)
    except ValueError as error:
        print(f"python -m app: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # Gradio's, where the port is taken
        print(f"python -m app: {error}; choose another --port", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _serve(o: argparse.Namespace, place: Path) -> int:
    import gradio as gr

    from app import page
    from app.viewer import head
    from app.workbench import Workbench

    bench = Workbench(o.checkpoints, o.images, o.runs, o.cache, place)
    built = page.build(bench)
    built.queue(default_concurrency_limit=4)
    print(f"PLRC workbench: http://{o.host}:{o.port}/ (Ctrl-C ends it)", flush=True)
    built.launch(
        server_name=o.host,
        server_port=o.port,
        auth=tuple(o.auth.split(":", 1)) if o.auth else None,
        max_file_size="50mb",
        head=head(),
        css=page.CSS,
        theme=gr.themes.Default(font="system-ui", font_mono="monospace"),
        allowed_paths=[],
        show_error=False,
        quiet=True,
    )
    return 0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m app", description="The PLRC workbench in a browser.")
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        dest="checkpoints",
        metavar="FILE",
        help="a file, a run folder or a name such as torchvision:resnet50; FILE@key for its momentum encoder; again "
        "for more [the newest run, else plrc:tiny]",
    )
    parser.add_argument(
        "--images", action="append", default=[], type=Path, metavar="DIR", help="a folder whose pictures may be shown"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders lie [runs]")
    parser.add_argument("--cache", type=float, default=1024, metavar="MB", help="megabytes of feature maps kept [1024]")
    parser.add_argument("--host", default=LOCAL, help=f"address to listen on [{LOCAL}, this machine alone]")
    parser.add_argument("--port", type=int, default=7860, help="[7860]")
    parser.add_argument("--auth", metavar="NAME:PASSWORD", help="needed to let others in")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
