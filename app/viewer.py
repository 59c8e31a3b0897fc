"""A viewer: a drawing surface of ``app/static`` as a component of the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

STATIC = Path(__file__).parent / "static"

# `scene` is what changes with each click, `still` the pictures, which are large and change seldom.
_ON_LOAD = """
const view = plrc.%s(element.querySelector(".plrc-root"), (event) => { props.value = event; trigger("select"); });
const show = () => view.show(props.scene && {...props.scene, ...props.still});
show();
watch(["scene", "still"], show);
"""


def viewer(
    name: str, elem_id: str, scene: dict[str, Any] | None = None, still: dict[str, Any] | None = None
) -> gr.HTML:
    """A component that shows ``scene`` and ``still`` with ``plrc.NAME``; its value is the last event."""
    return gr.HTML(
        value=None,
        html_template='<div class="plrc-root"></div>',
        js_on_load=_ON_LOAD % name,
        elem_id=elem_id,
        apply_default_css=False,
        scene=scene,
        still=still or {},
    )


def head() -> str:
    """The viewers' scripts, to be put into the page itself: nothing is fetched."""
    scripts = [file.read_text(encoding="utf-8") for file in sorted(STATIC.glob("*.js"))]
    return "".join(f"<script>\n{script}\n</script>\n" for script in scripts)
