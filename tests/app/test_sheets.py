"""The views that are sheets: colours, segments, scores, detections; and what a detector needs to be offered."""

from __future__ import annotations

import re
import shutil

import pytest
import torch

from plrc.checkpoint import DETECTOR, save_checkpoint
from plrc.detection.detector import Architecture, Detector
from tests.app.test_page import BOTH, TAKES

TWO = "images=scenes%2312&images=scenes%233"


@pytest.mark.parametrize(("view", "dark", "width"), [("colours", False, 1280), ("segments", True, 390)])
def test_images_beside_their_colours_by_each_network(visit, view, dark, width):
    page = visit(f"?view={view}&{TWO}&{BOTH}{'&__theme=dark' * dark}", width)
    page.locator(f"#{view}-sheet img").nth(5).wait_for(timeout=TAKES)
    named = page.locator(f"#{view}-sheet figcaption").all_inner_texts()
    assert named == ["scene 12", "plrc:tiny", "random:tiny", "scene 3", "plrc:tiny", "random:tiny"]
    assert "All images share" in page.locator(f"#{view}-sheet").inner_text()
    whole = "(i) => i.complete && i.naturalWidth > 0 && i.clientWidth >= i.parentElement.clientWidth - 1"
    assert all(image.evaluate(whole) for image in page.locator(f"#{view}-sheet img").all())
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "no horizontal scroll"


def test_scores_are_sorted_by_a_click_on_a_heading(visit):
    page = visit(f"?view=score&dataset=scenes:6&most=4&measures=auc&measures=purity&{BOTH}")
    page.locator("#score-sheet tbody tr").nth(4).wait_for(timeout=2 * TAKES)

    def column(k):
        cells = page.locator(f"#score-sheet tbody tr > :nth-child({k})").all_inner_texts()
        return [re.split(r"\s", cell)[0] for cell in cells] if k > 1 else cells

    assert set(column(1)) == {"plrc:tiny", "random:tiny", "Lab colour", "distance", "chance"}
    for k in (2, 3):
        heading = page.locator(f"#score-sheet thead th:nth-child({k}) button")
        heading.click()
        assert column(k) == sorted(column(k), reverse=True)
        heading.click()
        assert column(k) == sorted(column(k))
        assert page.locator(f"#score-sheet thead th:nth-child({k})").get_attribute("aria-sort") == "ascending"
    assert re.search(r"0\.\d{3}\s+\[0\.\d{3}, 0\.\d{3}\]", page.locator("#score-sheet tbody").inner_text())
    assert page.locator("#score-sheet img").evaluate("(image) => image.naturalWidth") > 500


def test_two_detectors_side_by_side_and_less_confidence(visit, server):
    page = visit("?view=detections")
    page.get_by_text("There is no detector here yet").wait_for(timeout=TAKES)
    for k, name in enumerate(("one", "two")):
        torch.manual_seed(k)
        made = Architecture(arch="tiny", neck="fpn", classes=("cup", "dog"))
        content = {"step": 5, "architecture": made.to_dict(), "test_short_side": 64, "longest": 100, "optimizer": {}}
        content |= {"category_ids": [1, 2], "model": Detector(made).state_dict()}
        run = server.folder / "runs" / name
        save_checkpoint(run / "checkpoints" / "last.pt", content, kind=DETECTOR)
        (run / "config.yaml").write_text("weights: plrc:tiny\nneck: fpn\n")
        (run / "log.jsonl").write_text("")
    page = visit("?view=detections&images=scenes%233&detectors=runs/one&detectors=runs/two&least=0")
    page.locator("#detections-sheet .box.false").first.wait_for(timeout=TAKES)
    captions = page.locator("#detections-sheet figcaption").all_inner_texts()
    assert [caption.split(",")[0] for caption in captions] == ["one", "two"]
    before = page.locator("#detections-sheet figure .false").count()
    assert before > 1
    page.locator("#detections-least input[type=number]").fill("1")
    page.locator("#detections-least input[type=number]").press("Enter")
    page.wait_for_function("!document.querySelector('#detections-sheet figure .false')", timeout=TAKES)
    assert page.locator("#detections-sheet figure .missed").count() > 1
    shutil.rmtree(server.folder / "runs")
