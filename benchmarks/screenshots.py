"""The images of docs/app.md: ``python -m benchmarks.screenshots [VIEW …]``, after ``make demo`` and two detectors:

    for weights in plrc random; do plrc detect train --preset small --train scenes:200 --test scenes:50@1 \\
        --short-sides 128 --test-short-side 128 --roi-per-image 32 --iterations 300 --milestones 200 260 \\
        --weights $weights:tiny --out runs/detector-$weights; done

Starts the app as it opens by itself, does in each view what a user would, and writes ``docs/images/app/`` at 1280, 1600
and 390 pixels of width, light and dark.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
import urllib.request
from itertools import product
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images" / "app"
PORT = 7898
URL = f"http://127.0.0.1:{PORT}/"
SHOWN = "checkpoints=random:tiny&checkpoints=plrc:tiny"


def affinity(page: Page) -> None:
    page.goto(f"{URL}?view=affinity&images=sample:china&finer=shifted&points=0.4,0.6&{SHOWN}")
    page.wait_for_selector("#affinity-viewer .plrc-canvas >> nth=2")
    page.wait_for_timeout(1500)
    panel = page.locator("#affinity-viewer .plrc-canvas").nth(2)
    box = panel.bounding_box()
    assert box is not None
    panel.hover(position={"x": box["width"] * 0.44, "y": box["height"] * 0.42})


def loss(page: Page) -> None:
    others = "&".join(f"others=scenes%23{i}" for i in (3, 7, 21))
    page.goto(f"{URL}?view=loss&images=sample:china&others=sample:flower&{others}&checkpoints=runs/demo")
    page.wait_for_selector("#loss-viewer svg")
    page.wait_for_timeout(1500)


def correspondence(page: Page) -> None:
    page.goto(f"{URL}?view=correspond&images=sample:china&size=224&seed=3&{SHOWN}")
    page.wait_for_selector("#correspond-viewer canvas")
    page.wait_for_timeout(1500)


def embedding(page: Page) -> None:
    page.goto(f"{URL}?view=embed&images=scenes&most=60&size=224&regions=objects&clusters=8&{SHOWN}")
    page.get_by_text("neighbours kept").first.wait_for(timeout=120_000)
    page.wait_for_timeout(1000)
    plane = page.locator("#embed-viewer canvas").nth(2)
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    assert box is not None
    corners = ((0.2, 0.76), (0.45, 0.76), (0.45, 0.97), (0.2, 0.97), (0.2, 0.76))
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()


def retrieval(page: Page) -> None:
    page.goto(f"{URL}?view=retrieve&images=scenes%2335&among=scenes:60&size=128&{SHOWN}")
    page.locator("#retrieve-viewer .answer").nth(15).wait_for(timeout=120_000)
    page.wait_for_timeout(1000)


def training(page: Page) -> None:
    page.goto(f"{URL}?view=run&runs=runs/demo")
    page.wait_for_selector("#run-images img")
    page.wait_for_selector("#run-learnt img")
    page.wait_for_timeout(1500)


def colours(page: Page) -> None:
    images = "images=sample:china&images=sample:flower&images=scenes%2312&images=scenes%233"
    page.goto(f"{URL}?view=colours&{images}&finer=shifted&{SHOWN}")
    page.wait_for_selector("#colours-sheet img")


def segments(page: Page) -> None:
    images = "images=sample:china&images=sample:flower&images=scenes%2312&images=scenes%233"
    page.goto(f"{URL}?view=segments&{images}&finer=shifted&{SHOWN}")
    page.wait_for_selector("#segments-sheet img")


def detections(page: Page) -> None:
    images = "&".join(f"images=scenes%23{i}" for i in (12, 3, 7))
    page.goto(f"{URL}?view=detections&{images}&detectors=runs/detector-random&detectors=runs/detector-plrc")
    page.wait_for_selector("#detections-sheet img", timeout=120_000)


def scores(page: Page) -> None:
    page.goto(f"{URL}?view=score&dataset=scenes:60@1&most=24&size=224&{SHOWN}")
    page.wait_for_selector("#score-sheet img", timeout=300_000)


def epochs(page: Page) -> None:
    page.goto(f"{URL}?view=score&dataset=scenes:60@1&most=24&epochs=true&checkpoints=runs/demo")
    page.wait_for_selector("#score-sheet img", timeout=600_000)


VIEWS = (affinity, loss, correspondence, embedding, retrieval, training, colours, segments, scores, epochs, detections)


def main() -> None:
    chosen = [view for view in VIEWS if view.__name__ in sys.argv[1:] or not sys.argv[1:]]
    IMAGES.mkdir(exist_ok=True)
    server = subprocess.Popen([sys.executable, "-m", "plrc", "app", f"--port={PORT}"])
    try:
        while True:
            try:
                urllib.request.urlopen(URL, timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            for view in chosen:
                for width, theme in product((1280, 1600, 390), ("light", "dark")):
                    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
                    page.set_default_timeout(120_000)
                    view(page)
                    page.wait_for_timeout(800)
                    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
                    picture.convert("RGB").save(IMAGES / f"{view.__name__}_{width}_{theme}.webp", quality=88, method=6)
                    page.close()
    finally:
        server.terminate()


if __name__ == "__main__":
    main()
