"""A viewer: a drawing surface of ``static/`` as a component of the page."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from . import scenes

# `scene` is what changes with each click, `still` the image, which is large and changes seldom.
_ON_LOAD = """
const view = plrc.%s(element.querySelector(".plrc-root"), (event) => { props.value = event; trigger("select"); });
const read = (text) => text ? JSON.parse(text) : null;
const show = () => { const scene = read(props.scene); view.show(scene && {...scene, ...read(props.still)}); };
show();
watch(["scene", "still"], show);
"""


def viewer(name: str, elem_id: str, scene: dict[str, Any] | None = None) -> gr.HTML:
    """A component that shows a scene with ``plrc.NAME``; its value is the last event."""
    return gr.HTML(
        value=None,
        html_template='<div class="plrc-root"></div>',
        js_on_load=_ON_LOAD % name,
        elem_id=elem_id,
        apply_default_css=False,
        scene=_packed(scene),
        still="",
    )


def showing(scene: dict[str, Any] | None, still: dict[str, Any] | None = None) -> gr.HTML:
    """The update of a viewer that shows this; what was ``still`` stays where it is not given."""
    return gr.HTML(scene=_packed(scene)) if still is None else gr.HTML(scene=_packed(scene), still=_packed(still))


def _packed(scene: dict[str, Any] | None) -> str:
    """One string: Gradio looks into every list that it sends for files, and a map has thousands of numbers."""
    return "" if scene is None else json.dumps(scene)


def head() -> str:
    """The viewers' scripts and looks, to be put into the page itself: nothing is fetched."""
    return f"<style>\n{scenes.style()}</style>\n<script>\n{scenes.script()}</script>\n"
