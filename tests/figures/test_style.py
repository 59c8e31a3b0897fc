"""The one look: ranges of colours and their bar, the table of colours, files."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from plrc import figures
from plrc.figures.style import DIVERGING, LOOK, Scale, region_colours, scale_of
from tests.figures.readback import bar, picture

POINT = np.array([[0.5, 0.5]])


def test_an_automatic_range_is_that_of_all_maps_and_only_of_differences_symmetric() -> None:
    maps = [np.array([[0.2, np.nan]]), np.array([[-0.5, 0.4]])]
    plain, difference = scale_of("cosine", None, maps), scale_of("difference", None, maps)
    assert (plain.low, plain.high) == (-0.5, 0.4)
    assert (difference.low, difference.high) == (-0.5, 0.5)
    assert scale_of("positive − negative", None, [-m for m in maps]).low == -0.5, "whichever end is further out"
    for value in (0.0, 0.3, -0.9):
        scale = scale_of("cosine", None, [np.full((2, 2), value)])
        assert -1 <= scale.low < value < scale.high <= 1
    plain = colormaps["viridis"]
    assert [Scale("cosine", low, 1).colours for low in (-1, 0, -0.2)] == [DIVERGING, plain, plain]
    assert scale_of("cosine", None, maps, "magma").colours == colormaps["magma"]


def test_a_share_of_the_values_may_lie_beyond_the_range_at_each_end() -> None:
    maps = [np.arange(40.0), np.arange(40.0, 101.0)]
    scale = scale_of("cosine", 0.02, maps)
    assert (scale.low, scale.high, scale.beyond) == (2, 98, "both")
    scale = scale_of("difference", 0.02, maps)
    assert (scale.low, scale.high, scale.beyond) == (-98, 98, "max")
    assert scale_of("cosine", [0, 50], maps).high == 50, "a list is a range, too"  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no share of the values"):
        scale_of("cosine", 0.5, maps)


def test_values_beyond_the_limits_are_told_and_limits_that_are_no_range_refused() -> None:
    maps = [np.array([-0.1, 0.5, 1.2])]
    told = [scale_of("x", limits, maps).beyond for limits in ((-1, 2), (0, 2), (-1, 1), (0, 1))]
    assert told == ["neither", "min", "max", "both"]
    assert scale_of("cosine", (-1, 1), [np.array([1 + 1e-6])]).beyond == "neither", "rounding is not beyond"
    for limits in ((1, 0), (0, 0), (0, float("nan")), (0, float("inf"))):
        with pytest.raises(ValueError, match="low < high"):
            scale_of("cosine", limits, maps)
    with pytest.raises(ValueError, match="no finite softmax"):
        scale_of("softmax", None, [np.full((2, 2), np.nan)])


@pytest.mark.parametrize("most", [2, 4])
def test_the_bar_s_ends_are_the_range_s(most: int) -> None:
    said = "−1 1", "0.41 0.99", "0.932 0.987", "0 0.0021", "10 250"
    ranges = (-1, 1), (0.4132, 0.987), (0.9321, 0.9873), (0, 0.00213), (10, 250)
    for (low, high), ends in zip(ranges, said, strict=True):
        ticks = (scale := Scale("cosine", low, high)).ticks(most)
        labels = scale.labels(ticks)
        assert (ticks[0], ticks[-1], f"{labels[0]} {labels[-1]}") == (low, high, ends)
        assert ticks == sorted(set(ticks))


@pytest.mark.parametrize(("size", "vertical", "limits"), [((40, 60), True, None), ((20, 200), False, (-1.0, 1.0))])
def test_the_bar_has_the_range_of_the_maps_and_their_quantity(
    size: tuple[int, int], vertical: bool, limits: tuple[float, float] | None
) -> None:
    maps = np.array([[[0.1, 0.2]], [[0.3, 0.7]]])
    axes = bar(figures.affinity(picture(*size), maps, np.full((2, 2), 0.5), limits=limits))
    low_high, label = (axes.get_ylim(), axes.get_ylabel()) if vertical else (axes.get_xlim(), axes.get_xlabel())
    assert low_high == (limits or (0.1, 0.7))
    assert label == "cosine"


def test_the_table_of_colours_is_plain_and_its_colours_are_told_apart() -> None:
    assert json.loads(json.dumps(LOOK)) == LOOK
    for colours in (LOOK["categories"], LOOK["regions"]):
        assert len({to_rgb(colour) for colour in colours}) == len(colours)
    matches = (LOOK["matches"][state]["colour"] for state in ("right", "wrong"))
    blue, orange = (np.dot(to_rgb(colour), (0.299, 0.587, 0.114)) for colour in matches)
    assert abs(blue - orange) > 0.2, "in grey too"
    np.testing.assert_array_equal(region_colours(np.array([[1, 17]]))[0, 0], region_colours(17))


@pytest.mark.parametrize(("suffix", "opening"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")])
def test_the_same_figure_is_saved_as_the_same_bytes(tmp_path: Path, suffix: str, opening: bytes) -> None:
    files = [tmp_path / "new" / "folder" / f"{i}{suffix}" for i in range(2)]
    for file in files:
        figures.save(figures.affinity(picture(30, 40), np.eye(3)[None], POINT, note="by $x$"), file)
    first, second = (file.read_bytes() for file in files)
    assert first == second
    assert first.startswith(opening)
    assert not [word for word in (b"<dc:date>", b"CreationDate", b"tIME", b"Creation Time") if word in first]
    assert sorted(files[0].parent.iterdir()) == files, "no unfinished file stays"


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.png, \.pdf or \.svg"):
        figures.save(Figure(), tmp_path / "a.jpg")


def test_letters_that_no_font_has_are_told_in_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    curve = {"AUC": {"run": np.array([[0, 0.5, 0.4, 0.6]])}}
    figure = figures.scores_over_epochs(curve, {}, {}, "cell \ufdd0")  # no letter, nor will it ever be one
    figures.save(figure, tmp_path / "a.png")
    assert [record.getMessage() for record in caplog.records] == [
        "a.png: letters that no font here has are boxes (\ufdd0): install Noto Sans CJK, say"
    ]
    assert not recwarn.list, "matplotlib's own, one a letter"
