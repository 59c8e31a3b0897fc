"""The view *Point affinity*: click a picture, see what is like that place, by up to three networks side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from app.choosers import LAST, MOST, SIZES, checkpoint_chooser, kept_layer, layers_of, picture_chooser
from app.errors import said
from app.panel_scene import PICTURE, STRENGTH, cells, colours
from app.tab import Tab
from app.viewer import showing, viewer
from app.workbench import Workbench
from plrc.views import AffinityDrawing, Drawing, draw_affinity

NEW = 0  # a click that forgets the points before it
FINER = {"as the network makes it": None, "shifted ×2": "shifted", "upscaled ×2": "upscaled"}


def build(bench: Workbench) -> Tab:
    """The view's controls and viewer, to be called inside a ``gr.Tab``."""
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            picture = picture_chooser(bench)
        with gr.Column(scale=2, min_width=320):
            checkpoints = checkpoint_chooser(bench)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            maps = viewer("panels", "affinity-panels")
        with gr.Column(scale=1, min_width=260):
            click = gr.Radio(
                [("this place", NEW), ("this too", 1), ("but not this", -1)],
                value=NEW,
                label="A click asks: what is like …",
                info="With Shift: but not this.",
            )
            with gr.Row():
                undo = gr.Button("Undo", size="sm", min_width=80)
                clear = gr.Button("Clear", size="sm", min_width=80)
            layer = gr.Dropdown(
                layers_of(bench, bench.shown), value=LAST, label="Layer or head", allow_custom_value=True
            )
            size = gr.Dropdown(SIZES, value=448, label="Input size", info="Short side, pixels that the network sees.")
            difference = gr.Checkbox(False, label="Difference", info="The last checkpoint's map less the first one's.")
            automatic = gr.Checkbox(False, label="Automatic range", info="Colours from the maps' own values.")
            strength = gr.Slider(0, 1, STRENGTH, step=0.05, label="Overlay strength")
            with gr.Accordion("More", open=False):
                finer = gr.Dropdown(list(FINER), value=next(iter(FINER)), label="Grid")
                softmax = gr.Slider(
                    0, 0.5, 0, step=0.01, label="Softmax temperature", info="0: cosines. Else a density: 1 is even."
                )
    numbers = gr.HTML(elem_id="affinity-numbers", apply_default_css=False)
    points = gr.Textbox("", visible="hidden", elem_id="affinity-points")
    seen = gr.Textbox("", visible="hidden")  # the picture that is shown

    fields: dict[str, Component] = {
        "picture": picture,
        "checkpoints": checkpoints,
        "points": points,
        "layer": layer,
        "size": size,
        "finer": finer,
        "softmax": softmax,
        "difference": difference,
        "automatic": automatic,
        "strength": strength,
    }
    outputs = [maps, numbers, points, seen]
    controls = list(fields.values())

    @said
    def show(*values: Any, pictures_too: bool = True) -> list[Any]:
        state = dict(zip(fields, values, strict=True))
        drawings, scene = answer(bench, state)
        table, asked = _numbers(drawings), state["points"]
        if not drawings:
            return [_update(bench, state, scene, pictures_too), "", "[]", state["picture"]]
        if not asked:  # the point that was chosen for the user: the next click adds to what is seen
            asked = json.dumps([[point["x"], point["y"], 1] for point in scene["points"]])
        return [_update(bench, state, scene, pictures_too), table, asked, state["picture"]]

    @said
    def act(event: dict[str, Any] | None, click: int, *values: Any) -> list[Any]:
        state = dict(zip(fields, values, strict=True))
        if event is None:
            return [gr.skip()] * len(outputs)
        listed = _read(state["points"])
        if event["kind"] == "point":
            sign = -1 if event["negative"] else click
            kept = [] if sign == NEW else listed
            listed = [*kept, [float(event["x"]), float(event["y"]), sign or 1]]
        else:
            listed = listed[:-1] if event["kind"] == "undo" else []
        return show(*({**state, "points": json.dumps(listed)}).values(), pictures_too=False)

    def start(before: str, *values: Any) -> list[Any]:
        state = dict(zip(fields, values, strict=True))
        if before in ("", state["picture"]):  # the page is being opened, and shows it by itself
            return [gr.skip()] * len(outputs)
        return show(*{**state, "points": ""}.values())

    def step_back(*values: Any) -> list[Any]:
        return act({"kind": "undo"}, NEW, *values)

    def step_home(*values: Any) -> list[Any]:
        return act({"kind": "clear"}, NEW, *values)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
    maps.select(act, [maps, click, *controls], outputs, trigger_mode="multiple", **quiet)
    undo.click(step_back, controls, outputs, **quiet)
    clear.click(step_home, controls, outputs, **quiet)
    strength.release(show, controls, outputs, **quiet)
    for control in (layer, size, difference, automatic, finer):
        control.input(show, controls, outputs, **quiet)
    softmax.release(show, controls, outputs, **quiet)
    # Another picture: its own point. Other networks: the same places, and the layers that all of them have.
    picture.change(start, [seen, *controls], outputs, **quiet)
    checkpoints.input(partial(kept_layer, bench), [checkpoints, layer], layer, **quiet).then(
        show, controls, outputs, **quiet
    )

    def drawing(**state: Any) -> list[Drawing]:
        return list(_draw(bench, **state))

    return Tab("affinity", fields, drawing, show, outputs)


def answer(bench: Workbench, state: dict[str, Any]) -> tuple[list[AffinityDrawing], dict[str, Any]]:
    """What a click makes: the drawings that the fields' values ask for, and the scene of their maps."""
    drawings = _draw(bench, **state)
    return drawings, _scene(state, drawings)


def _draw(
    bench: Workbench,
    picture: str,
    checkpoints: list[str],
    points: str,
    layer: str,
    size: int,
    finer: str,
    softmax: float,
    difference: bool,
    automatic: bool,
    strength: float,
) -> list[AffinityDrawing]:
    """The maps by each network, and their difference if it is wanted; nothing where all points were taken back."""
    del strength  # of the page alone: a figure shows the map's own colours
    listed = _read(points)
    positive = [[x, y] for x, y, sign in listed if sign > 0]
    negative = [[x, y] for x, y, sign in listed if sign < 0]
    if not picture or not checkpoints or (points and not positive):
        return []
    if len(checkpoints) > MOST:
        raise ValueError(f"{MOST} checkpoints are compared at most, not {len(checkpoints)}: take one away")
    bench.check(checkpoints, [picture])
    how: dict[str, Any] = {
        "points": positive,
        "negatives": negative,
        "together": True,
        "layer": None if layer == LAST else layer,
        "size": int(size),
        "finer": FINER[finer],
        "temperature": softmax or None,
        "auto_range": automatic,
        "session": bench.session,
    }
    drawings = [draw_affinity([picture], checkpoints, **how)]
    if difference and len(checkpoints) > 1:
        drawings.append(draw_affinity([picture], checkpoints, difference=True, **how))
    return drawings


def _scene(state: dict[str, Any], drawings: Sequence[AffinityDrawing]) -> dict[str, Any]:
    """As ``panels.js`` takes it, without the picture."""
    panels = [PICTURE]
    points = [{"x": x, "y": y, "negative": sign < 0} for x, y, sign in _read(state["points"])]
    for drawing in drawings:
        scale = colours(drawing.scale)
        for name, ((answer, caption),) in drawing.columns.items():
            rows = [row for row in drawing.rows if row["network"] == drawing.names.get(name)]
            if rows and rows[0]["IoU"] != "":
                caption = f"{caption} · best IoU {rows[0]['IoU']:.2f}"
            panels.append({"title": name, "caption": caption, "map": cells(answer.values, answer.fmap), "scale": scale})
            if not state["points"]:
                points = [{"x": x, "y": y, "negative": False} for x, y in answer.positive.tolist()]
    return {"panels": panels, "points": points, "strength": state["strength"], "outline": None}


def _update(bench: Workbench, state: dict[str, Any], scene: dict[str, Any], pictures_too: bool) -> Any:
    if not state["picture"]:
        return showing(None)
    if not pictures_too:  # a click: the page has the picture
        return showing(scene)
    bench.check(pictures=[state["picture"]])
    return showing(scene, {"picture": bench.page_picture(state["picture"])})


def _numbers(drawings: Sequence[AffinityDrawing]) -> str:
    return "<br>".join(drawings[0].lines) if drawings else ""


def _read(points: str) -> list[list[float]]:
    """The points ``[x, y, 1 or −1]`` of the field; raises a ValueError if a link has spoiled them."""
    try:
        listed = json.loads(points or "[]")
        return [[float(x), float(y), 1 if float(sign) > 0 else -1] for x, y, sign in listed]
    except (ValueError, TypeError) as error:
        raise ValueError("the points of this link cannot be read: open the page without them") from error
