"""``plrc app --checkpoint FILE --images DIR``: the workbench in a browser."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware

from plrc.options import Parser

from .guard import LOCAL, Guard

SESSIONS = 100  # pages, or calls of programs, whose state is kept: about a megabyte each


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until it is ended. The exit status is 2, with a sentence on stderr, where that cannot be."""
    o = parse(arguments)
    # Uploads and exports of this server alone, gone when it ends. Nothing is fetched from anywhere, nothing reported.
    place = Path(tempfile.mkdtemp(prefix="plrc-app-"))
    # OpenMP threads that spin while they wait make t-SNE several times slower where cores are busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ |= {"GRADIO_TEMP_DIR": str(place), "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    for name in ("no_proxy", "NO_PROXY"):  # Gradio asks its own server whether it is there: not by way of a proxy
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), *LOCAL)))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # a service manager's way to end it: nothing is left either
    try:
        if o.host not in LOCAL and not o.auth:
            raise ValueError(f"--host {o.host} lets others in: give a name and a password with --auth NAME:PASSWORD")
        if o.auth and not all(o.auth.partition(":")):
            raise ValueError("--auth is a name and a password, NAME:PASSWORD")
        if not 0 <= o.port < 2**16:
            raise ValueError(f"--port must be between 0 and 65535, not {o.port}")
        with socket.socket() as probe:  # Gradio tells it seconds later, and at length
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOCAL[0], o.port))
        _serve(o, place)
    except (ValueError, OSError) as error:
        taken = f" (port {o.port}): choose another --port" * (not isinstance(error, ValueError))
        print(f"plrc app: {getattr(error, 'strerror', None) or error}{taken}", file=sys.stderr)
        return 2
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return 0


def _serve(o: argparse.Namespace, place: Path) -> None:
    import gradio as gr

    from . import page
    from .scenes import script, style
    from .workbench import Workbench

    bench = Workbench(o.checkpoints, o.images, o.runs, o.cache, place)
    # What the page opens with is encoded, and what that needs imported, before anyone waits for it.
    threading.Thread(target=bench.prepare, daemon=True).start()
    alone = o.host in LOCAL and not o.auth and not o.root_path
    megabytes = 4000 if alone else 50  # a checkpoint, or an image
    built = page.build(bench, alone).queue(default_concurrency_limit=4)
    print(f"PLRC workbench: http://{o.host}:{o.port}/ (Ctrl-C ends it)", flush=True)
    built.launch(
        server_name=o.host,
        server_port=o.port,
        auth=tuple(o.auth.split(":", 1)) if o.auth else None,
        root_path=o.root_path,
        app_kwargs={"middleware": [Middleware(Guard, alone=alone, place=place, megabytes=megabytes)]},
        max_file_size=f"{megabytes}mb",
        state_session_capacity=SESSIONS,
        head=f"<style>\n{style()}</style>\n<script>\n{script()}</script>\n",  # in the page itself: nothing is fetched
        css=page.CSS,
        theme=gr.themes.Default(font="system-ui", font_mono="monospace"),
        show_error=False,
        quiet=True,
    )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(prog="plrc app", description="The PLRC workbench in a browser.")
    named = "a file, a run folder, torchvision:resnet50 …; FILE@key for its momentum encoder; again for more"
    several: dict[str, Any] = {"action": "append", "default": []}
    first = f"{named} [plrc:tiny, and the newest run where there is one]"
    parser.add_argument("--checkpoint", dest="checkpoints", metavar="FILE", help=first, **several)
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="a folder, or a file such as instances_val2017.json, whose images may be shown",
        **several,
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders lie [runs]")
    parser.add_argument("--cache", type=float, default=1024, metavar="MB", help="megabytes of feature maps kept [1024]")
    parser.add_argument("--host", default=LOCAL[0], help=f"address to listen on [{LOCAL[0]}, this machine alone]")
    parser.add_argument("--port", type=int, default=7860, help="[7860]")
    parser.add_argument("--auth", metavar="NAME:PASSWORD", help="needed to let others in")
    parser.add_argument("--root-path", default="", metavar="/PATH", help="where a proxy has it, if not at its root")
    options, rest = parser.parse_known_args(arguments)
    return parser.refuse(rest) if rest else options


if __name__ == "__main__":
    sys.exit(main())
