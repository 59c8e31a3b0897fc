"""The page: its views, and what all of them share: export, a link, the theme."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from app import affinity, correspondence, embedding, training
from app.api import add_endpoints
from app.errors import said
from app.export import export
from app.links import query_of, values_of
from app.tab import Tab
from app.workbench import Workbench

_VIEWS: dict[str, tuple[str, Callable[[Workbench], Tab]]] = {
    "affinity": ("Point affinity", affinity.build),
    "correspondence": ("Region correspondence", correspondence.build),
    "embedding": ("Embedding", embedding.build),
    "training": ("Training run", training.build),
}
_TITLE = """# PLRC workbench
Look inside a checkpoint: every picture with its number, from point-level region contrast or any other ResNet."""
# The link is put into the address bar, from where it can be copied even if the clipboard is not to be had.
_COPY = """(query) => {
  const link = `${location.origin}${location.pathname}?${query}`;
  history.replaceState(null, "", link);
  navigator.clipboard?.writeText(link).catch(() => {});
  return link;
}"""
CSS = """
.gradio-container { max-width: 1600px !important; }
footer { display: none !important; }
"""


def build(bench: Workbench) -> gr.Blocks:
    """The whole page."""
    with gr.Blocks(title="PLRC workbench", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.Markdown(_TITLE)
        tabs: dict[str, Tab] = {}
        items: dict[str, gr.Tab] = {}
        with gr.Tabs(selected="affinity") as views:
            for name, (title, make) in _VIEWS.items():
                with gr.Tab(title, id=name) as items[name]:
                    tabs[name] = make(bench)
                    assert tabs[name].name == name
                    _share(bench, tabs[name])
        _open_link(page, views, tabs, items)
        add_endpoints(bench)
    return page


def _share(bench: Workbench, tab: Tab) -> None:
    """Export and link of a view."""
    fields = list(tab.fields.values())
    with gr.Row():
        make = gr.Button("Export PNG, SVG, NPZ and recipe", size="sm", elem_id=f"{tab.name}-export")
        copy = gr.Button("Link to this view", size="sm", elem_id=f"{tab.name}-link")
    link = gr.Textbox(
        visible=False,
        label="Link",
        info="Also in the address bar, and copied.",
        elem_id=f"{tab.name}-url",
        buttons=["copy"],
    )
    files = gr.Files(visible=False, label="Files", elem_id=f"{tab.name}-files")
    query = gr.Textbox(visible="hidden")

    @said
    def write(*values: Any) -> Any:
        drawn = tab.drawing(**dict(zip(tab.fields, values, strict=True)))
        drawings = drawn if isinstance(drawn, list) else [drawn]
        if not drawings:
            raise ValueError("there is nothing to export yet")
        written = export(bench, tab.name, drawings, bench.exports)
        return gr.Files([str(file) for file in written], visible=True)

    @said
    def tell(*values: Any) -> tuple[str, Any]:
        if any(isinstance(value, str) and bench.uploaded(value) for value in values):
            gr.Warning("The picture was uploaded: the link holds while this server runs. Export keeps the picture.")
        return query_of(tab, values), gr.Textbox(visible=True)

    make.click(write, fields, files, api_visibility="private")
    copy.click(tell, fields, [query, link], show_progress="hidden", api_visibility="private").then(
        None, query, link, js=_COPY
    )


def _open_link(page: gr.Blocks, views: gr.Tabs, tabs: dict[str, Tab], items: dict[str, gr.Tab]) -> None:
    """What is seen at first: what the link says, else the first view."""
    all_fields = [field for tab in tabs.values() for field in tab.fields.values()]

    @said
    def restore(request: gr.Request) -> list[Any]:
        asked: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            asked.setdefault(name, []).append(value)
        view = asked.get("view", ["affinity"])[-1]
        if view not in tabs:
            raise ValueError(f"the link's view={view} is none of {', '.join(tabs)}")
        values = [v for name, tab in tabs.items() for v in values_of(tab, asked if name == view else {})]
        return [gr.Tabs(selected=view), view, *values]

    opened = gr.Textbox("", visible="hidden")  # the views that were shown, by name
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    outputs = [output for tab in tabs.values() for output in tab.outputs]
    page.load(restore, None, [views, opened, *all_fields], **quiet).success(
        lambda view, *values: _show(tabs, view, values), [opened, *all_fields], outputs, **quiet
    )
    for name, tab in tabs.items():
        items[name].select(_at_first_sight(name, tab), [opened, *tab.fields.values()], [opened, *tab.outputs], **quiet)


def _at_first_sight(name: str, tab: Tab) -> Callable[..., list[Any]]:
    """What a view shows when it is chosen, if it has shown nothing yet: what it begins with."""

    def select(opened: str, *values: Any) -> list[Any]:
        # Nothing was opened: the page is being loaded, which also tells of a view, and will show it by itself.
        if not opened or name in opened.split():
            return [gr.skip()] * (1 + len(tab.outputs))
        return [f"{opened} {name}", *tab.show(*values)]

    return select


def _show(tabs: dict[str, Tab], view: str, values: tuple[Any, ...]) -> list[Any]:
    updates: list[Any] = []
    at = 0
    for name, tab in tabs.items():
        mine = values[at : at + len(tab.fields)]
        at += len(tab.fields)
        updates += tab.show(*mine) if name == view else [gr.skip() for _ in tab.outputs]
    return updates
