"""The images of docs/app.md: ``python -m benchmarks.screenshots [VIEW …]``, after ``make demo`` and two detectors:

    for weights in plrc random; do plrc detect train --preset small --train scenes:200 --test scenes:50@1 \\
        --short-sides 128 --test-short-side 128 --roi-per-image 32 --iterations 300 --milestones 200 260 \\
        --weights $weights:tiny --out runs/detector-$weights; done

Starts the app as it opens by itself, does in each view what a user would, and writes ``docs/images/app/`` at 1280, 1600
and 390 pixels of width, light and dark.
"""

from __future__ import annotations

import io
import sys
from itertools import product
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from benchmarks.clicks import URL, chromium, served

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images" / "app"
SHOWN = "checkpoints=random:tiny&checkpoints=plrc:tiny"
FOUR = "images=sample:china&images=sample:flower&images=scenes%2312&images=scenes%233&finer=shifted"
THREE = "&".join(f"images=scenes%23{i}" for i in (12, 3, 7))
OTHERS = "&".join(f"others={name}" for name in ("sample:flower", "scenes%233", "scenes%237", "scenes%2321"))
DETECTORS = "detectors=runs/detector-random&detectors=runs/detector-plrc"
SCENES = "dataset=scenes:60@1&most=24"
AFFINITY, PLANE = "#affinity-viewer .plrc-canvas >> nth=2", "#embed-viewer canvas >> nth=2"
# Name of the picture → the page's view, what it is asked, and what is there once it has answered.
VIEWS = {
    "affinity": ("affinity", f"images=sample:china&finer=shifted&points=0.4,0.6&{SHOWN}", AFFINITY),
    "loss": ("loss", f"images=sample:china&{OTHERS}&checkpoints=runs/demo", "#loss-viewer svg"),
    "correspondence": ("correspond", f"images=sample:china&size=224&seed=3&{SHOWN}", "#correspond-viewer canvas"),
    "embedding": (
        "embed", f"images=scenes&most=60&size=224&regions=objects&clusters=8&{SHOWN}", "text=neighbours kept",
    ),
    "retrieval": (
        "retrieve", f"images=scenes%2335&among=scenes:60&size=128&{SHOWN}", "#retrieve-viewer .answer >> nth=15",
    ),
    "training": ("run", "runs=runs/demo", "#run-images img", "#run-learnt img"),
    "colours": ("colours", f"{FOUR}&{SHOWN}", "#colours-sheet img"),
    "segments": ("segments", f"{FOUR}&{SHOWN}", "#segments-sheet img"),
    "scores": ("score", f"{SCENES}&size=224&{SHOWN}", "#score-sheet img"),
    "epochs": ("score", f"{SCENES}&epochs=true&checkpoints=runs/demo", "#score-sheet img"),
    "detections": ("detections", f"{THREE}&{DETECTORS}", "#detections-sheet img"),
}  # fmt: skip


def show(page: Page, name: str) -> None:
    """Open a view, and do in it what a user would."""
    view, asked, *answers = VIEWS[name]
    page.goto(f"{URL}?view={view}&{asked}")
    for answer in answers:
        page.wait_for_selector(answer)
    page.wait_for_timeout(1500)
    if name == "affinity":  # a point of the third panel
        at_places(page, AFFINITY, [(0.44, 0.42)])
    if name == "embedding":  # a line around some samples
        at_places(page, PLANE, [(0.2, 0.76), (0.45, 0.76), (0.45, 0.97), (0.2, 0.97), (0.2, 0.76)])


def at_places(page: Page, selector: str, places: list[tuple[float, float]]) -> None:
    """The pointer goes to the first place, and with its button pressed on to the others."""
    panel = page.locator(selector)
    panel.scroll_into_view_if_needed()
    box = panel.bounding_box()
    assert box is not None
    first, *others = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*first)
    if others:
        page.mouse.down()
        for place in others:
            page.mouse.move(*place, steps=8)
        page.mouse.up()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with served(), chromium() as browser:
        for name in [name for name in VIEWS if name in sys.argv[1:] or not sys.argv[1:]]:
            for width, theme in product((1280, 1600, 390), ("light", "dark")):
                page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)
                page.set_default_timeout(600_000)
                show(page, name)
                page.wait_for_timeout(800)
                picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
                picture.convert("RGB").save(IMAGES / f"{name}_{width}_{theme}.webp", quality=88, method=6)
                page.close()


if __name__ == "__main__":
    main()
