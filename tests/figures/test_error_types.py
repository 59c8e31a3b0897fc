"""Kinds of errors: bars as long as what they cost, counts beside them, and what is reached over them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox
from readback import rendered, texts, words

from plrc import figures
from plrc.figures.error_types import KINDS

LOST = {
    "missed": 0.115,
    "classification": 0.021,
    "localisation": 0.134,
    "both": 0.004,
    "duplicate": 0.008,
    "background": 0.032,
}
COUNTS = {kind: 10 + i for i, kind in enumerate(LOST)}


def bars(figure: Figure) -> dict[str, Rectangle]:
    """A bar is the one patch of a container, which has its name."""
    return {of.get_label(): of[0] for axes in figure.axes for of in axes.containers}


def test_bars_are_as_long_as_the_points_lost_from_the_top_in_one_order() -> None:
    figure = figures.error_types(LOST, COUNTS, 0.653)
    drawn = bars(figure)
    assert {kind: drawn[kind].get_width() for kind in KINDS} == pytest.approx({k: 100 * v for k, v in LOST.items()})
    assert {drawn[kind].get_x() for kind in KINDS} == {0}
    middles = [drawn[kind].get_window_extent().y0 for kind in KINDS]
    assert middles == sorted(middles, reverse=True)


def test_names_numbers_and_counts_stand_beside_their_bars() -> None:
    figure = figures.error_types(LOST, {**COUNTS, "background": 12345}, 0.653)
    rendered(figure)
    for kind, bar in ((kind, bars(figure)[kind].get_window_extent()) for kind in KINDS):
        count = "12\u202f345" if kind == "background" else str(COUNTS[kind])
        for said in (kind, f"{100 * LOST[kind]:.1f}", count):
            boxes = [t.get_window_extent() for t in texts(figure) if t.get_text() == said]
            middle = (bar.y0 + bar.y1) / 2
            assert any(abs((box.y0 + box.y1) / 2 - middle) < 0.6 * bar.height for box in boxes), (kind, said)


def test_what_is_reached_has_a_row_of_its_own_on_a_scale_of_all() -> None:
    figure = figures.error_types(LOST, COUNTS, 0.653, "after 24k")
    drawn = bars(figure)
    assert drawn["AP50"].get_width() == pytest.approx(65.3)
    assert drawn["AP50"].axes.get_xlim() == (0, 100)
    assert drawn["AP50"].get_window_extent().y0 > drawn["classification"].get_window_extent().y1
    assert words(figure) >= {"after 24k", "AP50 reached", "65.3", "points of AP50 lost", "count"}
    assert drawn["AP50"].get_facecolor() != drawn["missed"].get_facecolor()


def test_a_perfect_detector_an_unknown_loss_and_a_gain_can_be_drawn() -> None:
    lost = {**dict.fromkeys(KINDS, 0.0), "both": float("nan"), "duplicate": -0.004}
    figure = figures.error_types(lost, dict.fromkeys(KINDS, 0), 1.0)
    rendered(figure)
    assert bars(figure)["duplicate"].get_width() == pytest.approx(-0.4)
    assert bars(figure)["duplicate"].axes.get_xlim()[0] <= -0.4
    assert "both" not in bars(figure)
    assert words(figure) >= {"–", "−0.4", "100.0"}


@pytest.mark.parametrize("worst", [0.9, 0.02])
def test_no_text_covers_another_or_leaves_the_page(worst: float) -> None:
    figure = figures.error_types({**LOST, "missed": worst}, dict.fromkeys(KINDS, 123456), 0.05, "a title " * 15)
    rendered(figure)
    boxes = [text.get_window_extent() for text in texts(figure)]
    for a, b in itertools.combinations(boxes, 2):
        shared = Bbox.intersection(a, b)
        assert shared is None or min(shared.size) < 1
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)
    assert min(text.get_fontsize() for text in texts(figure)) >= 6


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_it_is_saved_the_same_twice(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{i}{suffix}" for i in range(2)]
    for file in files:
        figures.save(figures.error_types(LOST, COUNTS, np.float64(0.653)), file)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_other_kinds_and_per_cents_are_refused() -> None:
    with pytest.raises(ValueError, match="lost AP50: missed is missing"):
        figures.error_types({kind: 0.1 for kind in KINDS if kind != "missed"}, COUNTS, 0.5)
    with pytest.raises(ValueError, match="counts: other is missing or no kind"):
        figures.error_types(LOST, {**COUNTS, "other": 1}, 0.5)
    with pytest.raises(ValueError, match="shares, not per cent"):
        figures.error_types(LOST, COUNTS, 65.3)
    with pytest.raises(ValueError, match="shares, not per cent"):
        figures.error_types({**LOST, "both": 4.0}, COUNTS, 0.5)
    with pytest.raises(ValueError, match="no class has an object"):
        figures.error_types(LOST, COUNTS, float("nan"))
