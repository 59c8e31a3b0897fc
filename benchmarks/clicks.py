"""How long a click takes in the app, from the pointer to the new maps, in a real browser (Chromium, headless).

``python -m benchmarks.clicks`` starts a server for each set of checkpoints, opens the page, clicks twenty times at
random places, and prints medians: *browser*, from the press of the pointer until the panels are drawn anew; *server*,
the handler's own part of it, measured in this process at the same places. Images: an embedded scene, and a
photograph of 640 × 427 pixels that scikit-learn ships.
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
from playwright.sync_api import Browser, Page, sync_playwright

from app.affinity import AffinityTab
from app.workbench import Workbench
from plrc.options import Point
from plrc.queries import Affinity

CLICKS = 20
PORT = 7899
URL = f"http://127.0.0.1:{PORT}/"
PANELS = "#affinity-viewer .plrc-canvas"
CASES = (
    (["plrc:tiny"], "scenes#12", 448),
    (["plrc:tiny", "random:tiny"], "sample:china", 448),
    (["random:resnet50"], "sample:china", 448),
    (["random:resnet50", "random:resnet18", "plrc:tiny"], "sample:china", 448),
    (["random:resnet50"], "sample:china", 896),
)


def main() -> None:
    print("| checkpoints | image | input | first view, s | click: server, ms | click: browser, ms (longest) |")
    print("|---|---|---|---|---|---|")
    with chromium() as browser:
        for checkpoints, image, size in CASES:
            opened, clicks = _in_browser(browser.new_page(), checkpoints, image, size)
            server = _on_server(checkpoints, image, size)
            numbers = (
                f"{opened:.1f} | {statistics.median(server):.0f} | {statistics.median(clicks):.0f} ({max(clicks):.0f})"
            )
            print(f"| {', '.join(checkpoints)} | {image} | {size} | {numbers} |", flush=True)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's browser, without a screen."""
    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])


@contextmanager
def served(*arguments: str) -> Iterator[None]:
    """``plrc app`` at ``URL``, from its first answer on."""
    command = [sys.executable, "-m", "plrc", "app", f"--port={PORT}", *arguments]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while True:
            try:
                urllib.request.urlopen(URL, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait()


def _in_browser(page: Page, checkpoints: list[str], image: str, size: int) -> tuple[float, list[float]]:
    with served(*(f"--checkpoint={name}" for name in checkpoints)):
        time.sleep(2)  # Gradio answers a little before its queue does
        start = time.perf_counter()
        shown = "&".join(f"checkpoints={checkpoint}" for checkpoint in checkpoints)
        page.goto(f"{URL}?images={image.replace('#', '%23')}&size={size}&{shown}")
        page.wait_for_function(
            f"document.querySelectorAll('{PANELS}').length === {len(checkpoints) + 1} && "
            f"[...document.querySelectorAll('{PANELS}')].every((c) => c.dataset.drawn) && "
            "document.querySelector('#affinity-points textarea').value",
            timeout=30_000,
            polling=50,
        )
        opened = time.perf_counter() - start
        page.wait_for_timeout(1500)
        return opened, [_click(page) for _ in range(CLICKS)]


def _click(page: Page) -> float:
    """Milliseconds, by the browser's own clock, from the press until the last panel has changed."""
    page.evaluate(
        """(panels) => {
          const last = [...document.querySelectorAll(panels)].at(-1), before = last.dataset.drawn;
          window.took = null;
          addEventListener("pointerdown", () => {
            const pressed = performance.now();
            const look = () => last.dataset.drawn === before || !answered() ? requestAnimationFrame(look)
              : (window.took = performance.now() - pressed);
            const points = document.querySelector("#affinity-points textarea"), asked = points.value;
            const answered = () => points.value !== asked;
            look();
          }, {capture: true, once: true});
        }""",
        PANELS,
    )
    box = page.locator(PANELS).first.bounding_box()
    assert box is not None
    place = {"x": box["width"] * random.uniform(0.05, 0.95), "y": box["height"] * random.uniform(0.05, 0.95)}
    page.locator(PANELS).first.click(position=place)  # type: ignore[arg-type]
    page.wait_for_function("window.took !== null", timeout=30_000, polling=50)
    page.wait_for_timeout(100)
    return float(page.evaluate("window.took"))


def _on_server(checkpoints: list[str], image: str, size: int) -> list[float]:
    bench = Workbench(checkpoints)
    with gr.Blocks():
        tab = AffinityTab(bench)
    took = []
    for i in range(CLICKS + 1):
        points = (Point(random.random(), random.random()),)
        query = Affinity(images=(image,), checkpoints=tuple(checkpoints), points=points, size=size)
        start = time.perf_counter()
        tab.show(query, still=False)
        if i:  # the first one encodes
            took.append(1000 * (time.perf_counter() - start))
    return took


if __name__ == "__main__":
    main()
