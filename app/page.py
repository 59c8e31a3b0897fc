"""The page: its views, and what all of them share: export, a link, endpoints for programs, the theme."""

from __future__ import annotations

import html
import inspect
import typing
from collections.abc import Callable, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import gradio as gr

from plrc.options import Options, Point, Size
from plrc.queries import VIEWS

from .affinity import AffinityTab
from .correspondence import CorrespondenceTab
from .detections import DetectionsTab
from .embedding import EmbeddingTab
from .loss import LossTab
from .retrieval import RetrievalTab
from .run import RunTab
from .sheets import ColoursTab, ScoresTab, SegmentsTab
from .tab import IMAGES, PROMPT, QUIET, Tab, said
from .workbench import Workbench, unplaced

_TABS: tuple[type[Tab], ...] = (AffinityTab, LossTab, CorrespondenceTab, EmbeddingTab, RetrievalTab, RunTab)
_TABS += (ColoursTab, SegmentsTab, ScoresTab, DetectionsTab)
_TITLE = "# PLRC workbench"
# The link is put into the address bar, from where it can be copied even if the clipboard is not to be had.
_COPY = """(query) => {
  const link = `${location.origin}${location.pathname}?${query}`;
  history.replaceState(null, "", link);
  navigator.clipboard?.writeText(link).catch(() => {});
  return link;
}"""
_HIDE = "() => Array(2).fill({ __type__: 'update', visible: false })"
# Gradio's own labels and help texts are too pale to be read, and its orange on white.
CSS = """
.gradio-container {
  max-width: 1920px !important; overflow: clip !important; --block-info-text-color: var(--body-text-color);
  --block-title-text-color: var(--body-text-color); --block-label-text-color: var(--body-text-color);
  --body-text-color-subdued: var(--body-text-color); --accordion-text-color: var(--body-text-color);
  --button-primary-background-fill: #c2410c; --button-primary-background-fill-hover: #9a3412;
}
.gradio-container .prose h1 { margin: 0 !important; font-size: 20px !important; }
.gradio-container button[role="tab"].selected { color: var(--body-text-color) !important; }
@media (max-width: 740px) { /* letters stay readable: swipe */
  :is(#run-curves, #run-learnt) figure { overflow-x: auto; border-right: 3px solid var(--border-color-primary); }
  :is(#run-curves, #run-learnt) img { min-width: 700px; max-width: none !important; }
}
.dark #run-curves img, .dark .plrc-chart { filter: invert(0.93) hue-rotate(180deg); } /* a white page would glare */
.dark :is(#run-images, #run-learnt) img { filter: brightness(0.8); }
.gradio-container :has(.plrc-asks) { overflow: visible !important; } /* so that they stay in reach, see viewers.css */
#affinity-epoch input[type="number"] { pointer-events: none; } /* any number could be typed, few epochs are stored */
[id$="-checkpoints"] .remove-all, #run-runs .remove-all { display: none; } /* Gradio tells nobody of its use */
footer, #add-file { display: none !important; } /* the latter takes what is dropped, see drop.js */
.toast-wrap { top: auto !important; bottom: 16px; } /* not over the tabs */
[id$="-thumbnails"] .caption-label { direction: rtl; unicode-bidi: plaintext; } /* of a long name the end */
[id$="-thumbnails"] .grid-container { grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)) !important; }
.plrc-lines { margin: 0; font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
"""


def build(bench: Workbench, alone: bool = False) -> gr.Blocks:
    """The whole page. alone: for who runs the server, and may name any file of this machine."""
    bench.adds = alone
    with gr.Blocks(title="PLRC workbench", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.Markdown(_TITLE)
        answered = gr.State({})  # kept by the server: no event can be ahead of it
        tabs: dict[str, Tab] = {}
        items: dict[str, gr.Tab] = {}
        with gr.Tabs(selected=_TABS[0].name) as views:
            for kind in _TABS:
                with gr.Tab(kind.title, id=kind.name) as items[kind.name]:
                    tabs[kind.name] = kind(bench, answered)
                    _share(tabs[kind.name])
        _open_link(page, views, tabs, items, answered)
        if alone:
            _add(bench, tabs)

        def offered() -> dict[str, list[str]]:
            """The checkpoints and images of this server."""
            return {"checkpoints": bench.checkpoints(), "images": bench.images, "devices": bench.devices}

        gr.api(offered)
        for name, view in VIEWS.items():
            gr.api(endpoint(bench, view.traits["query"]), api_name=name)
    return page


def endpoint(bench: Workbench, kind: type[Options]) -> Callable[..., dict[str, Any]]:
    """For programs: ``gradio_client.Client(URL).predict(…, api_name="/affinity")``.

    Its parameters are the query's fields, a point as [x, y], a size as a number or "640x480". It answers with the
    drawing's ``lines`` (the numbers), ``rows`` (the table) and ``arrays``, as lists.
    """
    default = kind().to_dict()
    as_json = {Size: int | str, tuple[Point, ...]: list[list[float]]}
    hints = {name: as_json.get(hint, hint) for name, hint in typing.get_type_hints(kind).items() if name in default}

    def answer(*values: Any) -> dict[str, Any]:
        drawing = bench.draw(kind.from_dict(dict(zip(default, values, strict=True))))
        arrays = {name: array.tolist() for name, array in drawing.arrays.items()}
        return {"lines": drawing.lines, "rows": drawing.told_rows(), "arrays": arrays}

    named, either = said(answer), inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, either, default=value) for name, value in default.items()]
    named.__doc__, named.__annotations__ = inspect.getdoc(kind), hints
    named.__signature__ = inspect.Signature(parameters, return_annotation=dict)  # type: ignore[attr-defined]
    return named


def _share(tab: Tab) -> None:
    """Export and link of a view."""
    name, inputs = tab.name, list(tab.controls.values())
    with gr.Row():
        make = gr.Button("Export PNG, SVG, NPZ and recipe", size="sm", elem_id=f"{name}-export")
        copy = gr.Button("Link to this view", size="sm", elem_id=f"{name}-link")
    told = "Also in the address bar, and copied."
    link = gr.Textbox(visible=False, label="Link", info=told, elem_id=f"{name}-url", buttons=["copy"])
    files = gr.Files(visible=False, label="Files", elem_id=f"{name}-files")
    address = gr.Textbox(visible="hidden")

    def write(query: Any) -> Any:
        return gr.Files([str(file) for file in tab.bench.export(name, tab.drawings(query))], visible=True)

    @said
    def tell(*values: Any) -> tuple[str, Any]:
        if any(tab.bench.uploaded(value) for value in values):
            gr.Warning("The image was uploaded: the link holds while this server runs. Export keeps the image.")
        query = tab.query(values)
        tab.bench.check(query)
        return tab.link(query), gr.Textbox(visible=True)

    # What was written, and the link, are of another picture once the numbers are others.
    tab.outputs[1].change(None, None, [link, files], js=_HIDE)
    make.click(tab.answering(write), inputs, files, api_visibility="private")
    copy.click(tell, inputs, [address, link], **QUIET).then(None, address, link, js=_COPY)


def _add(bench: Workbench, tabs: Mapping[str, Tab]) -> None:
    """A field for a folder or a checkpoint that is to be offered, too."""
    with gr.Accordion("Add a folder of images, a run or a checkpoint", open=False, elem_id="add"):
        info = "A path of this machine, or a name such as random:resnet18; Enter adds it. A checkpoint, like an image, "
        info += "can also be dropped anywhere on the page."
        path = gr.Textbox(label="Path or name", info=info, elem_id="add-path")
        told = gr.Markdown(elem_id="add-told")
    with gr.Column(elem_id="add-file"):
        file = gr.UploadButton("Upload a checkpoint")
    controls = [(name, component) for tab in tabs.values() for name, component in tab.controls.items()]
    lists = {component: name for name, component in controls if name in (*IMAGES, "dataset", "among")}

    @said
    def add(named: str) -> list[Any]:
        what = bench.add(named)
        now = (bench.choices(name, one.multiselect) for one, name in lists.items())
        return [what, "", *(gr.Dropdown(choices=choices) for choices in now)]

    path.submit(add, path, [told, path, *lists], **QUIET)

    @said
    def take(dropped: str | None) -> None:
        if not dropped:
            return
        with unplaced(Path(dropped)):
            gr.Info(html.escape(bench.add(dropped).replace(dropped, Path(dropped).name)), title="Added")

    file.upload(take, file, None, **QUIET)


def _open_link(
    page: gr.Blocks, views: gr.Tabs, tabs: Mapping[str, Tab], items: Mapping[str, gr.Tab], answered: gr.State
) -> None:
    """What is seen at first: what the link says, else the first view; and of another view, when it is chosen."""
    inputs = {name: list(tab.controls.values()) for name, tab in tabs.items()}
    outputs = {name: list(tab.outputs) for name, tab in tabs.items()}

    def only(view: str, components: Mapping[str, list[Any]], updates: list[Any]) -> list[Any]:
        """Updates of the components of one view; those of the others are skipped."""
        return [u for name, of in components.items() for u in (updates if name == view else [gr.skip()] * len(of))]

    def asked(request: gr.Request) -> tuple[Tab, Any]:
        said = {name: request.query_params.getlist(name) for name in request.query_params}
        view = said.get("view", list(tabs))[0]
        if view not in tabs:
            raise ValueError(f"the link's view={view} is none of {', '.join(tabs)}")
        return tabs[view], tabs[view].read(said)

    def restore(request: gr.Request, seen: dict[str, int]) -> list[Any]:
        try:
            tab, query = asked(request)
        except ValueError:  # which ``show`` tells
            seen.setdefault(next(iter(tabs)), 0)
            return [gr.skip(), *only("", inputs, [])]
        seen.setdefault(tab.name, 0)
        return [gr.Tabs(selected=tab.name), *only(tab.name, inputs, tab.values(query))]

    def show(request: gr.Request, seen: dict[str, int]) -> list[Any]:
        """Draws from the link itself: the page's components may not have its values yet. Nothing, if the user has."""
        tab = next(iter(tabs.values()))
        try:
            tab, query = asked(request)
            updates = tab.show(query)
        except ValueError as error:
            updates = tab.fault(error, first=True)
        return only("" if any(seen.values()) else tab.name, outputs, updates)

    restored = page.load(restore, answered, [views, *chain(*inputs.values())], **PROMPT)
    restored.then(show, answered, list(chain(*outputs.values())), **PROMPT)  # after it: both say what the points are
    for name, tab in tabs.items():
        items[name].select(partial(_at_first_sight, tab), [answered, *inputs[name]], outputs[name], **QUIET)


def _at_first_sight(tab: Tab, answered: dict[str, int], *values: Any) -> list[Any]:
    """What a view shows when it is chosen, if it has shown nothing yet: what it begins with."""
    # Nothing was shown: the page is being loaded, which also tells of a view, and will show it by itself.
    if not answered or tab.name in answered:
        return tab.nothing
    answered[tab.name] = 0
    return tab.seen(tab.show, values, first=True)
