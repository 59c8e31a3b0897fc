"""Detections: which are right, false and missed, and that their labels can be read."""

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from plrc import figures
from plrc.figures import DetectedPicture
from tests.figures.readback import panels, picture, rendered, texts, words

KINDS = ("right", "false", "excused", "object", "missed", "uncounted")


def detected(
    found: list[tuple[list[float], float, str]], truth: list[tuple[list[float], str]], **more: Any
) -> DetectedPicture:
    """Of a picture 200 pixels wide and 100 high."""
    boxes, scores, labels = zip(*found, strict=True) if found else ([], [], [])
    objects, names = zip(*truth, strict=True) if truth else ([], [])
    name, image = more.pop("name", "a.jpg"), picture(100, 200)
    return DetectedPicture(image, name, np.array(boxes), np.array(scores), labels, np.array(objects), names, **more)


def drawn(axes: Axes) -> dict[str, list[list[float]]]:
    """Corners of the boxes of each kind that occurs."""
    found: dict[str, list[list[float]]] = {}
    for patch in axes.patches:
        if patch.get_label() in KINDS:
            box = patch.get_bbox().extents * (200, 100, 200, 100)  # of the picture, in pixels
            found.setdefault(patch.get_label(), []).append(box.round(6).tolist())
    return found


def the_panel(picture: DetectedPicture, **how: Any) -> Axes:
    (axes,) = panels(figures.detections([picture], **how), "picture")
    return axes


def labels(axes: Axes) -> list[Text]:
    return [t for t in axes.texts if t.get_text()]


CAT, DOG = [10.0, 20, 60, 80], [100.0, 10, 180, 90]
TRUTH = [(CAT, "cat"), (DOG, "dog")]


def test_a_detection_is_right_at_iou_one_half_of_its_class_and_no_object_is_found_twice() -> None:
    just, under = [10.0, 20, 35, 80], [10.0, 20, 34, 80]  # IoU 0.5 and 0.48
    assert drawn(the_panel(detected([(just, 0.9, "cat")], TRUTH))) == {
        "right": [just],
        "object": [CAT],
        "missed": [DOG],
    }
    assert drawn(the_panel(detected([(under, 0.9, "cat")], TRUTH)))["false"] == [under]
    assert drawn(the_panel(detected([(CAT, 0.9, "dog")], TRUTH)))["missed"] == [CAT, DOG]
    twice = drawn(the_panel(detected([(just, 0.8, "cat"), (CAT, 0.7, "cat"), (DOG, 0.6, "dog")], TRUTH)))
    assert twice == {"right": [just, DOG], "false": [CAT], "object": [CAT, DOG]}
    swapped = drawn(the_panel(detected([(just, 0.7, "cat"), (CAT, 0.8, "cat")], TRUTH)))
    assert (swapped["right"], swapped["false"]) == ([CAT], [just]), "the higher score first, in whatever order"


def test_of_several_objects_the_best_free_one_is_found_by_what_is_drawn() -> None:
    other = [12.0, 22, 62, 82]
    axes = the_panel(detected([(CAT, 0.9, "cat"), (CAT, 0.8, "cat")], [(other, "cat"), (CAT, "cat")]))
    assert drawn(axes) == {"right": [CAT, CAT], "object": [other, CAT]}
    axes = the_panel(detected([(CAT, 0.9, "cat"), (DOG, 0.1, "dog")], TRUTH))
    assert drawn(axes) == {"right": [CAT], "object": [CAT], "missed": [DOG]}, "a hidden detection finds nothing"


def test_labels_and_lines_tell_what_is_right_false_and_missed() -> None:
    axes = the_panel(detected([(CAT, 0.904, "cat"), (DOG, 0.55, "cat")], TRUTH))
    assert [t.get_text() for t in labels(axes)] == ["cat 90 %", "✗ cat 55 %", "dog"]
    faces = [to_hex(t.get_bbox_patch().get_facecolor()) for t in labels(axes)]
    edges = [to_hex(t.get_bbox_patch().get_edgecolor()) for t in labels(axes)]
    assert faces[0] == edges[0] == edges[1]
    assert faces[1:] == ["#ffffff", "#000000"]
    looks = {p.get_label(): (p.get_linewidth(), p.get_linestyle() == "solid") for p in axes.patches}
    assert looks["right"][0] >= 2 * looks["false"][0]
    assert looks["missed"][0] >= 2 * looks["object"][0]
    assert (looks["right"][1], looks["missed"][1], looks["object"][1]) == (True, False, False)


def test_objects_that_do_not_count_are_not_missed_nor_detections_of_them_false() -> None:
    inside = [100.0, 10, 130, 40]
    seen = detected([(CAT, 0.9, "cat"), (inside, 0.8, "dog"), (inside, 0.7, "cat")], TRUTH, uncounted=[False, True])
    figure = figures.detections([seen])
    assert drawn(panels(figure, "picture")[0]) == {
        "right": [CAT],
        "excused": [inside],
        "false": [inside],
        "object": [CAT],
        "uncounted": [DOG],
    }
    assert words(figure) >= {"dog 80 %", "a.jpg 1 of 1 objects found · 1 false · 1 not counted", "not counted"}


def test_what_is_drawn_of_many_and_what_is_said_of_the_rest() -> None:
    many = [([float(x), 0, x + 5, 5], 0.9 - x / 100, "cat") for x in range(0, 60, 2)]
    seen = detected(many, TRUTH)
    assert len(drawn(the_panel(seen))["false"]) == 20
    assert "a.jpg 0 of 2 objects found · 20 false … and 10 more, at most 50 %" in words(figures.detections([seen]))
    few = figures.detections([seen], least=0.8)
    assert "a.jpg 0 of 2 objects found · 6 false … and 24 more, at most 78 %" in words(few)
    assert len(drawn(the_panel(seen, most=40, least=0))["false"]) == 30


def test_a_class_has_one_look_on_all_sheets() -> None:
    classes = [f"class {k:02}" for k in range(21)]
    seen = [detected([(CAT, 0.9, name)], [(CAT, name)], name=name) for name in classes]

    def looks(pictures: list[DetectedPicture], **how: Any) -> dict[str, tuple[Any, ...]]:
        found = {}
        for axes in panels(figures.detections(pictures, **how), "picture"):
            (box,) = [p for p in axes.patches if p.get_label() == "right"]
            found[labels(axes)[0].get_text()[:8]] = (to_hex(box.get_edgecolor()), str(box.get_linestyle()))
        return found

    sheets = [looks(seen[:12], classes=classes), looks(seen[9:], classes=classes)]
    assert all(sheets[0][name] == sheets[1][name] for name in set(sheets[0]) & set(sheets[1]))
    assert len({*sheets[0].values(), *sheets[1].values()}) == 21
    assert looks(seen[3:5]) == looks(list(reversed(seen[3:5]))), "sorted, where nobody says"
    assert "#1a1a1a" not in {colour for colour, _ in sheets[0].values()}, "black is what is missed"
    with pytest.raises(ValueError, match="the classes lack class 03"):
        figures.detections(seen[:4], classes=classes[:3])


def test_masks_tint_what_they_cover_in_the_colour_of_their_class() -> None:
    masks = np.zeros((2, 100, 200), dtype=bool)
    masks[0, :50, :50], masks[1, 40:, :] = True, True
    axes = the_panel(detected([(CAT, 0.9, "cat"), (DOG, 0.1, "dog")], TRUTH, masks=masks))
    (tint,) = [np.asarray(i.get_array()) for i in axes.images if i.get_label() == "masks"]
    np.testing.assert_array_equal(tint[..., 3] > 0, masks[0])
    (box,) = [p for p in axes.patches if p.get_label() == "right"]
    assert to_hex(tint[0, 0, :3]) == to_hex(box.get_edgecolor())


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (2, 2), (5, 3), (12, 3)])
def test_pictures_are_whole_and_in_rows_on_a_page(count: int, columns: int) -> None:
    tall = DetectedPicture(picture(300, 100), "b.jpg", np.zeros((0, 4)), np.zeros(0), [], np.zeros((0, 4)), [])
    figure = figures.detections([tall, *(detected([], TRUTH, name=f"{i}.jpg") for i in range(count - 1))])
    assert "b.jpg 0 of 0 objects found" in words(figure)
    for axes in panels(figure, "picture"):
        h, w = axes.images[0].get_array().shape[:2]
        assert (axes.get_xlim(), axes.get_ylim()) == ((0, 1), (1, 0))
        assert axes.bbox.width / axes.bbox.height == pytest.approx(w / h)
    places = [axes.get_subplotspec() for axes in panels(figure, "picture")]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [divmod(i, columns) for i in range(count)]
    assert figure.get_figwidth() <= 7 + 1e-6


def crowd(seed: int, n: int) -> DetectedPicture:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.85, (n, 2)) * (200, 100)
    boxes = np.hstack((corners, corners + rng.uniform(5, 40, (n, 2)))).clip(0, (200, 100, 200, 100))
    names = rng.choice(["RBC", "WBC", "Platelets"], n).tolist()
    keep = rng.random(n) < 0.7
    return DetectedPicture(
        picture(100, 200), f"{seed}", boxes[keep] + rng.normal(0, 1, (keep.sum(), 4)), rng.uniform(0.3, 1, keep.sum()),
        [name for name, kept in zip(names, keep, strict=True) if kept], boxes, names,
    )  # fmt: skip


@pytest.mark.parametrize("count", [1, 9])
def test_labels_stay_in_their_picture_and_off_each_other(count: int) -> None:
    figure = figures.detections([crowd(seed, 22) for seed in range(count)])
    figure.set_dpi(300)  # at a few pixels a letter, letters are not as wide as they should be
    rendered(figure)
    for axes in panels(figure, "picture"):
        faces = [text.get_bbox_patch().get_window_extent() for text in labels(axes)]
        assert len(faces) >= 15
        for face in faces:
            assert axes.bbox.x0 - 3 <= face.x0 < face.x1 <= axes.bbox.x1 + 3, "a line's width, at 300 dots per inch"
            assert axes.bbox.y0 - 3 <= face.y0 < face.y1 <= axes.bbox.y1 + 3
        shared = [Bbox.intersection(a, b) for a, b in itertools.combinations(faces, 2)]
        area = sum(face.width * face.height for face in faces)
        assert sum(box.width * box.height for box in shared if box) < 0.03 * area


def test_the_key_says_what_occurs_and_fits() -> None:
    seen = detected([(CAT, 0.9, "cat")], [*TRUTH, (CAT, "dog")], uncounted=[False, False, True])
    figure = figures.detections([seen], note="runs/a")
    rendered(figure)
    said = ["found", "✗ false", "object", "missed object, named in black", "not counted"]
    assert [t.get_text() for t in figure.subfigs[0].legends[0].get_texts()] == said
    assert figure.subfigs[0].legends[0].get_window_extent().x1 <= figure.bbox.x1
    assert "runs/a; drawn are scores of 50% or more, 20 a picture at most" in words(figure)
    plain = figures.detections([detected([(CAT, 0.9, "cat")], TRUTH[:1])])
    assert [t.get_text() for t in plain.subfigs[0].legends[0].get_texts()] == said[:3]
    assert min(t.get_fontsize() for t in texts(figure)) >= 5


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a\.jpg: boxes, scores, labels and masks"):
        detected([(CAT, 0.9, "cat")], TRUTH, masks=np.zeros((2, 100, 200), dtype=bool))
    with pytest.raises(ValueError, match=r"a\.jpg: masks are of 50 × 200 pixels, the image of 100 × 200"):
        detected([(CAT, 0.9, "cat")], TRUTH, masks=np.zeros((1, 50, 200), dtype=bool))
    with pytest.raises(ValueError, match=r"a\.jpg: boxes, labels and uncounted of the objects"):
        detected([], TRUTH, uncounted=[True])
    for count in (0, 13):
        with pytest.raises(ValueError, match=f"1 to 12 pictures, not {count}"):
            figures.detections([detected([], TRUTH)] * count)
