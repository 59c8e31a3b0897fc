"""A server of the app in a process of its own, and a browser: real ones, started once."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from app import scenes

ROOT = Path(__file__).resolve().parents[2]


def handler(page: gr.Blocks, kind: str, of: str | None = None) -> Callable[..., Any]:
    """What answers such an event, of the component with this ``elem_id`` or of the only one."""
    such = [(fn.fn, page.blocks[target]) for fn in page.fns.values() for target, name in fn.targets if name == kind]
    (found,) = [fn for fn, component in such if of in (None, component.elem_id)]
    assert found is not None
    return found


class Server:
    """``python -m app`` in a folder, on a free port; ``url`` waits until it answers."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.log = folder, folder / "server.log"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._url, self._answers = f"http://127.0.0.1:{port}/", False
        command = [sys.executable, "-m", "app", "--port", str(port), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
        environment["XDG_CACHE_HOME"] = str(folder / "cache")
        environment["http_proxy"] = "http://127.0.0.1:9"  # as on most clusters: the app goes past it to itself
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)

    @property
    def url(self) -> str:
        deadline = time.monotonic() + 400  # many wait for few cores
        while not self._answers:
            try:
                urllib.request.urlopen(self._url, timeout=20).close()
                self._answers = True
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.2)
        return self._url

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)

    def memory(self) -> float:
        """Megabytes that the process holds."""
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss / 1e6


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[Callable[..., Server]]:
    """``serve(*arguments)``: a server that is starting, and is ended with the tests."""
    started: list[Server] = []

    def start(*arguments: str) -> Server:
        started.append(Server(tmp_path_factory.mktemp("server"), "--images", str(photos), *arguments))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def server(serve: Callable[..., Server]) -> Server:
    return serve("--checkpoint=plrc:tiny", "--checkpoint=random:tiny", "--cache=40")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images: tall, wide and small ones, one that is damaged, and one on its side by its EXIF."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name, size in (("tall", (9, 16)), ("wide", (18, 9)), ("small", (6, 4))):
        patches = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
        patches.resize((size[0] * 25, size[1] * 25), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(folder / "wide.png").save(folder / "turned.jpg", exif=turned)
    (folder / "broken.png").write_bytes((folder / "tall.png").read_bytes()[:300])
    return folder


class Bare:
    """A page with one viewer and nothing else; ``page`` is Playwright's."""

    def __init__(self, page: Any, name: str, width: int, colours: str) -> None:
        self.page = page
        page.mouse.move(0, 0)
        page.goto("about:blank")
        page.set_viewport_size({"width": width, "height": 800})
        head = f"<style>{scenes.style()}</style><script>{scenes.script([name])}</script>"
        page.set_content(f"{head}<body style='margin: 0; {colours}'><div id='root'></div>")
        page.evaluate(f"window.told = []; window.view = plrc.{name}(root, (event) => told.push(event)); undefined")

    def show(self, scene: Any, wait: bool = True) -> None:
        """Until its images are decoded and it is drawn."""
        self.page.evaluate(f"async (scene) => {{ {'await' * wait} view.show(scene); }}", scene)
        self.settle()

    def settle(self) -> None:
        """Until what is asked for the next frame is drawn, and what follows from a size that changes with it."""
        frame = "await new Promise(requestAnimationFrame); "
        self.page.evaluate(f"async () => {{ {4 * frame} }}")

    def hover(self, x: float, y: float, number: int = 0, surface: str = ".plrc-canvas") -> tuple[float, float]:
        """Moves to these shares of a surface, in whole pixels; where that is."""
        box = self.page.locator(surface).nth(number).bounding_box()
        at = round(box["x"] + x * box["width"]), round(box["y"] + y * box["height"])
        self.page.mouse.move(*at)
        self.settle()
        return (at[0] - box["x"]) / box["width"], (at[1] - box["y"]) / box["height"]

    def enlarge(self, factor: float) -> None:
        """What is under the pointer, by the wheel with Ctrl."""
        self.page.keyboard.down("Control")
        self.page.mouse.wheel(0, -400 * np.log(factor))
        self.page.keyboard.up("Control")
        self.settle()

    def told(self) -> list[dict[str, Any]]:
        """The events since the last time."""
        events: list[dict[str, Any]] = self.page.evaluate("told.splice(0)")
        return events

    def texts(self, selector: str) -> list[str]:
        return [str(text) for text in self.page.locator(selector).all_text_contents()]

    def pixels(self, selector: str, number: int = 0) -> np.ndarray:
        """``(H, W, 3)``, as they are seen."""
        shot = self.page.locator(selector).nth(number).screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))


@pytest.fixture(scope="session")
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """``open_page(device_scale_factor=2)``: a page of that kind, the same each time; what fails in it is kept."""
    pages: dict[str, Any] = {}

    def give(**how: Any) -> Any:
        key = repr(sorted(how.items()))
        if key not in pages:
            pages[key] = page = browser.new_context(**how).new_page()
            page.faults, page.asked = [], []
            page.on("pageerror", lambda error: page.faults.append(str(error)))
            page.on("request", lambda request: page.asked.append(request.url))
        return pages[key]

    yield give
    for page in pages.values():
        page.context.close()


@pytest.fixture
def bare(open_page: Callable[..., Any]) -> Iterator[Callable[..., Bare]]:
    """``bare("panels", scene, width)``: a viewer alone; at the end, that nothing failed and nothing was fetched."""
    opened: list[Bare] = []

    def go(name: str, scene: Any = None, width: int = 900, colours: str = "", scale: float = 1, **how: Any) -> Bare:
        opened.append(Bare(open_page(device_scale_factor=scale, **how), name, width, colours))
        if scene is not None:
            opened[-1].show(scene)
        return opened[-1]

    yield go
    for one in opened:
        assert not one.page.faults
        assert all(url.startswith(("data:", "about:")) for url in one.page.asked)


@pytest.fixture
def visit(browser, server):
    """``visit("?view=…", width=1280)``: the page, opened; at the end, that nothing was asked of any other machine."""
    contexts, asked, faults = [], [], []

    def go(query: str = "", width: int = 1280, url: str | None = None, login: Any = None, **how):
        context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True, **how)
        contexts.append(context)
        if login:
            context.request.post(f"{url}login", form=login)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"{url or server.url}{query}")
        return page

    yield go
    for context in contexts:
        context.close()
    own = ("http://127.0.0.1:", "data:", "blob:")
    assert not [url for url in asked if not url.startswith(own)]
    assert not faults
