"""The view *Region correspondence*: what of one picture, or of a view of it, a network finds in another."""

from __future__ import annotations

import html
import json
import math
from importlib.util import find_spec
from typing import Any

import gradio as gr
from gradio.components import Component

from app.choosers import LAST, MOST, SIZES, checkpoint_chooser, layers_of, picture_chooser
from app.errors import said
from app.match_scene import scene_of
from app.tab import Tab
from app.viewer import showing, viewer
from app.workbench import Workbench
from plrc.views import Drawing, draw_correspondence
from plrc.views.correspondence import CorrespondenceDrawing

VIEWS = "two views of it"
POINTS = "none: match points"
OBJECTS = "objects"
_MOST_POINTS = 16384  # of a network: more of them a page cannot show
_GEOMETRY = ("picture", "other", "seed", "scale")  # a chosen point means something only while these stay
_ROWS = {  # of the table of numbers: of a drawing's rows, and what they are called here
    "asked": "asked",
    "matches": "matches kept",
    "visible": "true place shown",
    "right": "right",
    "recall": "recall",
    "blind guess": "recall, blind guess",
    "mutual": "mutual, share",
    "recall of mutual": "recall of mutual",
    "cosine": "cosine, mean",
    "cycle": "cycle error, median",
}


def build(bench: Workbench) -> Tab:
    """The view's controls and viewer, to be called inside a ``gr.Tab``."""
    with gr.Row():
        with gr.Column(scale=1, min_width=220):
            picture = picture_chooser(bench)
        with gr.Column(scale=1, min_width=220):
            other = gr.Dropdown(
                [(VIEWS, ""), *bench.picture_choices()],
                value="",
                label="Match with",
                info="Of two views the true places are known.",
                allow_custom_value=True,  # a link may name one that is not listed; Workbench.check has the last word
            )
        with gr.Column(scale=1, min_width=220):
            regions = gr.Dropdown(
                _region_choices(True), value=POINTS, label="Regions", info="Matched whole, by their mean features."
            )
        with gr.Column(scale=2, min_width=320):
            checkpoints = checkpoint_chooser(bench)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            pairs = viewer("pairs", "correspondence-pairs")
        with gr.Column(scale=1, min_width=290):
            numbers = gr.HTML(elem_id="correspondence-numbers", apply_default_css=False)
            more = gr.Button("Other views", size="sm", elem_id="correspondence-more")
            seed = gr.Number(0, precision=0, minimum=0, label="Seed", info="Of the two views and their colours.")
            scale = gr.Slider(0.05, 1, 0.2, step=0.05, label="Crop scale", info="Least share of it that a view shows.")
            layer = gr.Dropdown(
                layers_of(bench, bench.shown), value=LAST, label="Layer or head", allow_custom_value=True
            )
            size = gr.Dropdown(
                SIZES, value=224, label="Input size", info="Side of a view, short side of a picture; 224 in training."
            )
            mutual = gr.Checkbox(False, label="Mutual only", info="There and back ends where it began.")
            ratio = gr.Slider(0.5, 1, 1, step=0.01, label="Ratio test", info="To the next best; 1 keeps all.")
            within = gr.Slider(0, 3, 1, step=1, label="Right within", info="Cells from the true place.")
    points = gr.Textbox("", visible="hidden", elem_id="correspondence-points")
    drawn_of = gr.Textbox("", visible="hidden")  # the geometry of what is seen

    fields: dict[str, Component] = {
        "picture": picture,
        "other": other,
        "checkpoints": checkpoints,
        "points": points,
        "regions": regions,
        "layer": layer,
        "size": size,
        "seed": seed,
        "scale": scale,
        "mutual": mutual,
        "ratio": ratio,
        "within": within,
    }
    controls = list(fields.values())
    outputs = [pairs, numbers, points, drawn_of, regions, layer, seed, scale, more, within]

    @said
    def show(*values: Any) -> list[Any]:
        state = _possible(bench, dict(zip(fields, values, strict=True)))
        views, matched_whole = not state["other"], state["regions"] != POINTS
        scene, table = None, ""
        if state["picture"] and state["checkpoints"]:
            drawn = _draw(bench, **{**state, "points": ""})
            scene, table = scene_of(drawn, _read(state["points"]), bench.session), _numbers(drawn)
            if scene["chosen"] is None:  # or the view does not show it
                state["points"] = ""
        return [
            showing(scene),
            table,
            state["points"],
            _geometry(state),
            gr.Dropdown(choices=_region_choices(_objects_known(bench, state)), value=state["regions"]),
            gr.Dropdown(choices=layers_of(bench, state["checkpoints"]), value=state["layer"]),
            gr.Number(visible=views),
            gr.Slider(visible=views),
            gr.Button(visible=views),
            gr.Slider(visible=not matched_whole),
        ]

    def start(before: str, *values: Any) -> list[Any]:
        state = dict(zip(fields, values, strict=True))
        if before and before != _geometry(state):  # nothing before: a link, whose point is meant
            state["points"] = ""
        return show(*state.values())

    def choose(event: dict[str, Any] | None) -> Any:
        if event is None:
            return gr.skip()
        return json.dumps([event["place"]]) if event["place"] else ""

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
    pairs.select(choose, pairs, points, trigger_mode="multiple", **quiet)
    picture.change(start, [drawn_of, *controls], outputs, **quiet)
    for listener in (other.input, seed.input, scale.input):
        listener(start, [drawn_of, *controls], outputs, trigger_mode="always_last", **quiet)
    more.click(lambda seed: int(seed or 0) + 1, seed, seed, **quiet).then(
        start, [drawn_of, *controls], outputs, **quiet
    )
    for chosen in (checkpoints, regions, layer, size, mutual, ratio, within):
        chosen.input(show, controls, outputs, trigger_mode="always_last", **quiet)

    def drawing(**state: Any) -> list[Drawing]:
        """All matches; and, where one is chosen, that one, which is its recipe's ``points``."""
        state = _possible(bench, state)
        if not state["picture"] or not state["checkpoints"]:
            return []
        drawings: list[Drawing] = [_draw(bench, **{**state, "points": ""})]
        if state["points"] and state["regions"] == POINTS:
            drawings.append(_draw(bench, **state))
        return drawings

    return Tab("correspondence", fields, drawing, show, outputs)


def _draw(
    bench: Workbench,
    picture: str,
    other: str,
    checkpoints: list[str],
    points: str,
    regions: str,
    layer: str,
    size: int,
    seed: int | None,
    scale: float,
    mutual: bool,
    ratio: float,
    within: int,
) -> CorrespondenceDrawing:
    if len(checkpoints) > MOST:
        raise ValueError(f"{MOST} checkpoints are compared at most, not {len(checkpoints)}: take one away")
    bench.check(checkpoints, [picture, *([other] if other else [])])
    if seed is None or seed < 0:
        raise ValueError("the seed of the views is a whole number, 0 or more")
    named = None if layer == LAST else layer
    if regions == POINTS:
        _check_number(bench, picture, other, checkpoints, named, int(size))
    return draw_correspondence(
        [picture],
        checkpoints,
        other or None,
        points=_read(points),
        regions=None if regions == POINTS else regions,
        layer=named,
        size=int(size),
        within=int(within),
        mutual=mutual,
        ratio=None if ratio >= 1 else ratio,
        seed=int(seed),
        scale=scale,
        session=bench.session,
    )


def _check_number(
    bench: Workbench, picture: str, other: str, checkpoints: list[str], layer: str | None, size: int
) -> None:
    """Raise a ValueError, before any work is done, if there would be too many points."""
    width, height = bench.session.picture(picture).image.size if other else (1, 1)
    for network in bench.session.networks(checkpoints, "cpu", layer).values():
        cells = math.ceil((size / network.stride(layer)) ** 2 * max(width, height) / min(width, height))
        if cells > _MOST_POINTS:
            raise ValueError(
                f"{layer or network.last} at size {size} makes {cells} points, more than the {_MOST_POINTS} that can "
                "be shown: choose a smaller size, a coarser layer, or regions"
            )


def _possible(bench: Workbench, state: dict[str, Any]) -> dict[str, Any]:
    """The same, without a layer or regions that these networks and pictures do not have: as the lists then say."""
    bench.check(state["checkpoints"] or [], [spec for spec in (state["picture"], state["other"]) if spec])
    state = {**state, "other": state["other"] or "", "points": state["points"] or ""}
    if state["layer"] not in layers_of(bench, state["checkpoints"]):
        state["layer"] = LAST
    if state["regions"] == OBJECTS and not _objects_known(bench, state):
        state["regions"] = POINTS
    return state


def _objects_known(bench: Workbench, state: dict[str, Any]) -> bool:
    specs = [spec for spec in (state["picture"], state["other"]) if spec]
    return bool(specs) and all(bench.session.picture(spec).masks is not None for spec in specs)


def _region_choices(objects: bool) -> list[str]:
    superpixels = ["superpixels:16"] if find_spec("skimage") else []
    return [POINTS, *(f"grid:{n}" for n in range(2, 9)), *superpixels, *[OBJECTS] * objects]


def _geometry(state: dict[str, Any]) -> str:
    return json.dumps([state[name] or 0 for name in _GEOMETRY])


def _read(points: str) -> list[list[float]]:
    """The points ``[x, y]`` of the field; raises a ValueError if a link has spoiled them."""
    try:
        return [[float(x), float(y)] for x, y in json.loads(points or "[]")]
    except (ValueError, TypeError) as error:
        raise ValueError("the point of this link cannot be read: open the page without it") from error


def _numbers(drawing: CorrespondenceDrawing) -> str:
    """A row a number, a column a network; and the same in sentences."""
    line, right = "border-bottom:1px solid var(--border-color-primary)", "text-align:right;padding:2px 0 2px 8px"
    names = (row["network"] for row in drawing.rows)
    head = "".join(
        f'<th scope="col" style="{right};{line};overflow-wrap:break-word">{_safe(name)}</th>' for name in names
    )
    body = ""
    for key, name in _ROWS.items():
        cells = [row[key] for row in drawing.rows]
        if all(cell == "" for cell in cells):
            continue  # nobody knows
        values = "".join(f'<td style="{right}">{_number(cell)}</td>' for cell in cells)
        body += f'<tr><th scope="row" style="text-align:left;font-weight:normal">{name}</th>{values}</tr>'
    style = "width:100%;border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums"
    sentences = "".join(f'<p style="margin:8px 0 0;font-size:13px">{_safe(line)}.</p>' for line in drawing.lines)
    return f'<table style="{style}"><tr><td style="{line}"></td>{head}</tr>{body}</table>{sentences}'


def _number(cell: float | int | str) -> str:
    return f"{cell:.3f}".replace("-", "−") if isinstance(cell, float) else str(cell)


def _safe(text: Any) -> str:
    return html.escape(str(text))
