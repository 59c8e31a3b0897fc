"""Readers of text and headers, given what hypothesis thinks of: a ValueError that names the file, or an answer."""

import copy
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import gradio as gr
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.page import _TABS
from app.workbench import Workbench
from plrc.config import load_config
from plrc.data.annotated import KeypointFolders, open_annotated
from plrc.data.images import UndecodableImage
from plrc.detection.data import DetectionData, Samples, truth_of_json
from plrc.pretrained import load
from plrc.queries import VIEWS, Affinity
from plrc.views import draw, read_recipe
from tests.sets import entry, picture, placed, thing, voc_set

CASES = int(os.environ.get("CASES", 60))  # of each test; the same in every run
fuzzed = settings(
    max_examples=CASES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2**31, 2**63, 1e308, -1])
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner), max_leaves=8
)


def told(file: object, attempt: Callable[[], Any]) -> Any:
    """What the attempt gives; a ValueError has to name the file."""
    try:
        return attempt()
    except (ValueError, UndecodableImage) as error:
        said = str(error)
    assert str(file) in said
    return None


def spoiled(sample: Any) -> st.SearchStrategy[Any]:
    """The sample with some of its parts replaced, left out or repeated."""

    def places(part: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inner = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        return [at, *(place for key, value in inner for place in places(value, (*at, key)))]

    def apply(faults: list[tuple[tuple[Any, ...], str, Any]]) -> Any:
        content = [copy.deepcopy(sample)]
        for place, how, value in faults:
            part: Any = content
            try:
                for key in (0, *place)[:-1]:
                    part = part[key]
                key = (0, *place)[-1]
                if how == "replace":
                    part[key] = value
                elif how == "twice" and isinstance(part, list):
                    part.insert(key, copy.deepcopy(part[key]))
                elif how == "leave out" and part is not content:
                    del part[key]
            except (LookupError, TypeError):
                continue  # a fault before has taken it away
        return content[0]

    fault = st.tuples(
        st.sampled_from(places(sample)), st.sampled_from(["replace", "replace", "twice", "leave out"]), JSON
    )
    return st.lists(fault, min_size=1, max_size=4).map(apply)


def bytes_of(*samples: bytes) -> st.SearchStrategy[bytes]:
    """Samples cut, joined and changed, and any bytes at all."""
    piece = st.sampled_from(samples) | st.binary(max_size=12)
    cut = st.tuples(piece, st.integers(0, 400)).map(lambda of: of[0][: of[1]])
    return st.lists(piece | cut, max_size=5).map(b"".join)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


COCO = {
    "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}, {"id": 2, "file_name": "2.png"}],
    "annotations": [
        entry(1, 1, [1, 2, 10, 9], area=90, iscrowd=0, segmentation=[[1, 2, 10, 2, 10, 9]]),
        entry(2, 2, [0, 0, 5, 5], iscrowd=1, segmentation={"size": [30, 40], "counts": [0, 1200]}),
    ],
    "categories": [{"id": 3, "name": "bee"}, {"id": 4, "name": "ant"}],
}


@fuzzed
@given(content=spoiled(COCO).map(lambda content: json.dumps(content).encode()) | bytes_of(json.dumps(COCO).encode()))
def test_annotations_of_coco(place, content):
    for name in ("1.png", "2.png"):
        if not (place / "coco" / name).exists():
            picture(place / "coco" / name)
    file = place / "coco" / "a.json"
    file.write_bytes(content)

    def attempt() -> None:
        data = DetectionData([str(file)]).checked()
        for i in range(len(data)):
            data.objects(i, masks=data.has_masks)
        samples = Samples(data, [32], 64, seed=0, masks=data.has_masks)
        assert all(torch.isfinite(samples[0, i].target.boxes).all() for i in data.trainable())
        for truth in (data.truth(), truth_of_json(file)):
            numbers = [a["id"] for a in truth["annotations"]]
            assert len(set(numbers)) == len(numbers)
            assert all(np.isfinite([*a["bbox"], a["area"]]).all() for a in truth["annotations"])

    told(file, attempt)


LINES = (
    b"0 0.5 0.5 0.2 0.2\n",
    b"1 0.1 0.1 0.9 0.1 0.5 0.9\n",
    b"0 nan 1e999 -1 0 0.5\n",
    b"\xef\xbb\xbf",
    b"\xff 0 0 0 0\n",
)
TABLE = (
    b"path: .\ntrain: images\nnames: [ant, bee]\n",
    b"names: {0: ant, 1: bee}\n",
    b"names:\n  x: y\n",
    b"- &a [*a]\n",
)


@fuzzed
@given(lines=bytes_of(*LINES), table=bytes_of(*TABLE))
def test_boxes_of_yolo_and_its_table(place, lines, table):
    root = place / "yolo"
    if not root.exists():
        picture(root / "images" / "a.png")
    placed(root / "labels" / "a.txt").write_bytes(lines)
    (root / "data.yaml").write_bytes(table)
    if source := told(root, lambda: open_annotated(str(root))):
        assert (source.annotation(0).boxes <= 1).all()
    told(root, lambda: open_annotated(str(root / "data.yaml")))


XML = (
    b"<annotation><size><width>40</width><height>30</height></size>", thing("dog", (1, 2, 20, 15)).encode(),
    b"</annotation>",
    b"<annotation><object><name>x</name><bndbox><xmin>inf</xmin><ymin>1</ymin><xmax>nan</xmax><ymax>9</ymax></bndbox>",
    b"</object></annotation>", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"&b;", b"<size><width>1e999</width></size>",
    b"<?xml version='1.0' encoding='utf-7'?>", b"<?xml version='1.0' encoding='none'?>",
)  # fmt: skip


@fuzzed
@given(content=bytes_of(*XML))
def test_annotations_of_voc(place, content):
    root = place / "voc"
    if not root.exists():
        voc_set(root, {"a": ""})
    (root / "Annotations" / "a.xml").write_bytes(content)
    told(root, lambda: DetectionData([str(root)], ["dog", "x"]).checked().objects(0))


@fuzzed
@given(content=spoiled({"a.png": [[1, 2], None, [3, 4]], "b.png": [[1, 2], [5, 6], None]}).map(json.dumps))
def test_keypoints(place, content):
    root = place / "keypoints"
    if not root.exists():
        picture(root / "a.png")
    (root / "keypoints.json").write_text(content)
    if source := told(root, lambda: KeypointFolders(root)):
        source.keypoints(0)


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    drawing = draw(Affinity(images=("scenes#1",), checkpoints=("random:tiny",), size=32))
    return json.loads(json.dumps(drawing.recipe()))


@fuzzed
@given(data=st.data())
def test_recipes(place, recipe, data):
    file = place / "recipe.json"
    content = data.draw(spoiled(recipe).map(lambda of: json.dumps(of).encode()) | bytes_of(json.dumps(recipe).encode()))
    file.write_bytes(content)
    if then := told(file, lambda: read_recipe(file)):
        told("", lambda: VIEWS[then["view"]].traits["query"].from_dict(then["query"], "the query"))


@pytest.fixture(scope="module")
def tabs(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    bench = Workbench(("random:tiny",), runs=tmp_path_factory.mktemp("runs"), megabytes=1)
    with gr.Blocks():
        return [kind(bench) for kind in _TABS]


@fuzzed
@given(data=st.data())
def test_links(tabs, data):
    tab = data.draw(st.sampled_from(tabs))
    values = st.text(max_size=9) | NUMBERS.map(str) | st.sampled_from(["0.5,0.5", "../..", "scenes#1", "nan", "1e999"])
    asked = data.draw(
        st.dictionaries(st.sampled_from(list(tab.controls)) | st.text(max_size=3), st.lists(values, min_size=1))
    )
    try:
        query = tab.read(asked)
    except ValueError:
        return
    assert tab.read({"view": [tab.name], **parse_qs(tab.link(query), keep_blank_values=True)}) == query


HEADER = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"format": "pt"}}


@fuzzed
@given(header=spoiled(HEADER).map(lambda of: json.dumps(of).encode()) | bytes_of(json.dumps(HEADER).encode()))
def test_headers_of_safetensors(place, header):
    file = place / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    told(file, lambda: load(file))


PICKLES = (
    b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"\x80\x02", b"\x80\x04\x95", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
    b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"ccollections\nOrderedDict\n", b"c_codecs\nencode\n", b")R", b"(lp0\n",
    b"}q\x00(", b"X\x05\x00\x00\x00modelq\x01", b"K\x01", *(b"%c" % c for c in b"subtae.Q\x93"), b"h\x00",
)  # fmt: skip


@fuzzed
@given(content=bytes_of(*PICKLES))
def test_what_a_checkpoint_is_recognised_by(place, content):
    file = place / "a.pth"
    file.write_bytes(content)
    told(file, lambda: load(file))


@fuzzed
@given(content=bytes_of(b"epochs: 3\n", b"weights: {image: 1}\n", b"crop_scale: [0.1, 1]\n", b"out: &a [*a]\n", b"? "))
def test_configurations(place, content):
    file = place / "a.yaml"
    file.write_bytes(content)
    told("", lambda: load_config("demo", file))
