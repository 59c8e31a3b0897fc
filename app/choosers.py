"""What every view begins with: which picture, which checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app.errors import said
from app.workbench import Workbench

MOST = 3  # checkpoints side by side
LAST = "last map"  # the trunk's, whatever it is called
SIZES = (64, 112, 224, 320, 448, 640, 896)  # of an input, pixels


def picture_chooser(
    bench: Workbench, label: str = "Picture", value: str | None = None, upload: bool = True
) -> gr.Dropdown:
    """A list of the pictures on offer, and a button that adds one's own to it.

    The dropdown's ``input`` tells of a choice, its ``change`` of an upload too.
    """
    chooser = gr.Dropdown(
        bench.picture_choices(),
        value=value or bench.pictures[0],
        label=label,
        info="Choose, or type a name such as scenes#57.",
        allow_custom_value=True,  # a link may name one that is not listed; Workbench.check has the last word
        min_width=260,
    )
    if upload:
        button = gr.UploadButton("Upload a picture", size="sm", file_types=["image"], type="filepath")

        @said
        def accept(file: str | None) -> Any:
            if file is None:
                return gr.skip()
            bench.accept(Path(file))
            return gr.Dropdown(choices=[(f"{Path(file).name} (uploaded)", file), *bench.picture_choices()], value=file)

        button.upload(accept, button, chooser, show_progress="hidden", api_visibility="private")
    return chooser


def checkpoint_chooser(bench: Workbench, most: int = MOST) -> gr.Dropdown:
    """Up to ``most`` of the checkpoints on offer."""
    return gr.Dropdown(
        bench.checkpoints,
        value=bench.shown[:most],
        multiselect=True,
        max_choices=most,
        label="Checkpoints",
        info=f"Up to {most}, side by side. @key is the momentum encoder, random: an untrained network.",
        allow_custom_value=True,
        min_width=320,
    )


def layers_of(bench: Workbench, checkpoints: Sequence[str]) -> list[str]:
    """What a layer may be: the trunk's last map, or one that all of the networks have."""
    if not checkpoints:
        return [LAST]
    networks = list(bench.session.networks(checkpoints, "cpu", None).values())
    return [LAST, *(name for name in networks[0].layers if all(name in network.layers for network in networks))]


@said
def kept_layer(bench: Workbench, checkpoints: list[str], layer: str) -> Any:
    """The list of layers for other checkpoints; the chosen one stays if all of them have it."""
    bench.check(checkpoints)
    layers = layers_of(bench, checkpoints)
    return gr.Dropdown(choices=layers, value=layer if layer in layers else LAST)
