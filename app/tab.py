"""A view of the page, made from its query (``plrc.queries``): its controls, its link, and what it shows.

A new field of a query has a control, a place in the link and one in the endpoint, without a line here.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import json
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import gradio as gr

from plrc.options import Options, Point, Size, kind_of
from plrc.queries import Query
from plrc.views import Drawing

from .workbench import MOST, Workbench

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
_STEP = 0.05  # of a slider of shares
# `scene` is what changes with each click, `still` the image, which is large and changes seldom.
_ON_LOAD = """
const view = plrc.%s(element.querySelector(".plrc-root"), (event) => { props.value = event; trigger("select"); });
const read = (text) => text ? JSON.parse(text) : null;
const show = () => { const scene = read(props.scene); view.show(scene && {...scene, ...read(props.still)}); };
show();
watch(["scene", "still"], show);
"""


def said(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of an event whose ValueError is shown in the page; anything else is a fault of ours, and logged."""

    @functools.wraps(handler)
    def wrapped(*args: Any) -> Any:
        try:
            return handler(*args)
        except ValueError as error:
            text = html.escape(str(error), quote=False).rstrip(".")  # a file may be called <b>
            title = "This cannot be shown"
            raise gr.Error(f"{text}.", duration=None, title=title, print_exception=False) from error

    return wrapped


class Tab:
    """A view of the page; each is a class of its own, which says ``build`` and ``show``.

    Attributes:
        name: in ``plrc.queries.VIEWS`` and in links. title: of the tab. kind: the query's class.
        start: fields → what they are at first, where that is not the default. fixed: fields without a control.
        controls: of the other fields. outputs: what ``show`` updates.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[type[Options]]
    start: ClassVar[Mapping[str, Any]] = {}
    fixed: ClassVar[Mapping[str, Any]] = {}
    outputs: Sequence[Any]

    def __init__(self, bench: Workbench) -> None:
        """Lays the view out; to be called inside a ``gr.Tab``."""
        self.bench = bench
        self.controls: dict[str, Any] = {}
        self._fields = {field.name: field for field in dataclasses.fields(self.kind)}
        self._types = {name: kind_of(hint) for name, hint in typing.get_type_hints(self.kind).items()}
        given = {"checkpoints": bench.shown, "images": bench.images[:1]} | dict(self.start) | dict(self.fixed)
        self.first: Any = self.kind(**{name: value for name, value in given.items() if name in self._fields})
        self.build()

    def build(self) -> None:
        raise NotImplementedError

    def show(self, query: Any) -> list[Any]:
        """What is seen of a query: updates of ``outputs``. Raises a ValueError."""
        raise NotImplementedError

    def drawings(self, query: Any) -> list[Any]:
        """What is exported of a query. Raises a ValueError."""
        return [self.bench.draw(query)]

    # ---- Controls

    def control(self, name: str, component: Any = None, **special: Any) -> Any:
        """The control of a field, laid out here: from its type, choices, range and help, or a special one.

        special: what the component has otherwise (label, info, choices …); ``none``, what stands for None in a list.
        """
        about, (kind, optional) = self._fields[name].metadata, self._types[name]
        value = self._shown(name, getattr(self.first, name), special.get("multiselect", True))
        unit = f", {about['unit']}" * bool(about["unit"])
        text = about["help"] if about["help"][1].isdigit() else f"{about['help'][0].upper()}{about['help'][1:]}"
        how: dict[str, Any] = {"label": name.replace("_", " ").capitalize() + unit, "info": f"{text}."}
        how |= {"elem_id": f"{self.name}-{name}"} | special
        low, high, step = about["low"], about["high"], 1 if kind is int else _STEP
        low = _STEP if about["above"] == 0 else low
        none = [(how.pop("none", "–"), "")] if optional else []
        choices = how.pop("choices", None) or self.bench.choices(name) or about["choices"]
        if component is None and how.get("visible") == "hidden":
            component = gr.Textbox(value, **how)
        elif component is None and (choices or typing.get_origin(kind) is tuple):
            several: dict[str, Any] = {"multiselect": True} if typing.get_origin(kind) is tuple else {}
            free = not about["choices"]  # a link may name what is not listed; the workbench has the last word
            component = gr.Dropdown([*none, *choices], value=value, allow_custom_value=free, **(several | how))
        elif component is None and kind is bool:
            component = gr.Checkbox(value, **how)
        elif component is None and kind in (int, float):
            if low is not None and high is not None and high <= 100 and not optional:
                component = gr.Slider(low, high, value, step=step, **how)
            else:
                component = gr.Number(value, precision=0 if kind is int else None, minimum=low, maximum=high, **how)
        self.controls[name] = component or gr.Textbox(value, **how)
        if name in ("checkpoints", "runs"):  # what has come since the start
            self.controls[name].focus(lambda: gr.Dropdown(choices=self.bench.choices(name)), None, component, **QUIET)
        return self.controls[name]

    def image_chooser(self) -> None:
        """One image: of a list, or one's own."""
        info = "Choose, or type a name such as scenes#57."
        chooser = self.control("images", multiselect=False, label="Image", info=info)
        button = gr.UploadButton("Upload an image", size="sm", file_types=["image"], type="filepath")

        @said
        def accept(file: str | None) -> Any:
            if file is None:
                return gr.skip()
            self.bench.accept(Path(file))
            own = (f"{Path(file).name} (uploaded)", file)
            return gr.Dropdown(choices=[own, *self.bench.choices("images")], value=file)

        self.uploaded = button.upload(accept, button, chooser, show_progress="hidden", api_visibility="private")

    def checkpoint_chooser(self) -> None:
        info = f"Up to {MOST}, side by side. @key is the momentum encoder, random: an untrained network."
        self.control("checkpoints", info=info, max_choices=MOST, min_width=320)

    def rest(self) -> None:
        """All fields that have no control yet, in a part that is closed."""
        with gr.Accordion("More", open=False):
            for name in self._fields:
                if name not in self.controls and name not in self.fixed:
                    one_device = name == "device" and len(self.bench.devices) < 2
                    self.control(name, **({"visible": False} if one_device else {}))

    def redraws(self, names: Iterable[str], show: Callable[[Any], list[Any]] | None = None) -> Callable[..., Any]:
        """Draws anew when one of these controls is used; returns the handler of the components' values.

        show: stands in for that of the view.
        """
        inputs = list(self.controls.values())

        @said
        def handle(*values: Any) -> list[Any]:
            return (show or self.show)(self.query(values))

        for name in names:
            component = self.controls[name]
            if name == "checkpoints":
                self.follow_checkpoints().then(handle, inputs, self.outputs, **QUIET)
                continue
            # A number that is being typed is none yet.
            typed = isinstance(component, gr.Number | gr.Textbox)
            events = [component.submit, component.blur] if typed else [component.input]
            gr.on(events, handle, inputs, self.outputs, trigger_mode="always_last", **QUIET)
        return handle

    def follow_checkpoints(self) -> Any:
        """Other checkpoints have other layers; the chosen one stays if all of them have it. Returns the event."""
        chooser, layer = self.controls["checkpoints"], self.controls["layer"]

        @said
        def update(checkpoints: list[str], chosen: str) -> Any:
            self.bench.check(Query(checkpoints=tuple(checkpoints)))
            layers = self.bench.layers(checkpoints)
            return gr.Dropdown(choices=[("last map", ""), *layers], value=chosen if chosen in layers else "")

        return chooser.input(update, [chooser, layer], layer, **QUIET)

    # ---- The query, as the components and the link have it

    def query(self, values: Sequence[Any]) -> Any:
        """What the components' values say."""
        said = dict(zip(self.controls, values, strict=True))
        for name, value in said.items():
            kind, optional = self._types[name]
            if typing.get_args(kind)[:1] == (Point,):
                said[name] = (value or "").split()
            elif value in ("", None):
                said[name] = None if optional else () if typing.get_origin(kind) is tuple else value
        return self.kind(**said, **self.fixed)

    def values(self, query: Options) -> list[Any]:
        """The opposite of ``query``."""
        several = (getattr(component, "multiselect", True) for component in self.controls.values())
        return [
            self._shown(name, getattr(query, name), many) for name, many in zip(self.controls, several, strict=True)
        ]

    def _shown(self, name: str, value: Any, many: bool | None) -> Any:
        """A field's value as its component has it."""
        kind, _ = self._types[name]
        if value is None:
            return None if kind in (int, float) else ""
        if kind is Size:
            return str(value)
        if typing.get_args(kind)[:1] == (Point,):
            return " ".join(map(str, value))
        if typing.get_origin(kind) is tuple:
            return list(value) if many else next(iter(value), None)
        return value

    def link(self, query: Options) -> str:
        """The query string: what differs from the query's defaults, as another server may begin with others."""
        said: dict[str, Any] = {"view": self.name}
        for name in query.changed():
            value = getattr(query, name)
            several = isinstance(value, tuple) and not isinstance(value, Point | Size)
            said[name] = list(map(str, value)) if several else str(value)
        return urlencode({name: value for name, value in said.items() if name not in self.fixed}, doseq=True)

    def read(self, asked: Mapping[str, list[str]]) -> Any:
        """The opposite of ``link``; what the page begins with, if it says nothing of the query.

        Raises:
            ValueError: a value cannot be read, is out of range, or has no control here; names the field.
        """
        said: dict[str, Any] = {}
        for name, texts in asked.items():
            if name in self.fixed:
                raise ValueError(f"the link's {name} cannot be given in the page: use the command line")
            if name in self._fields:
                said[name] = texts if typing.get_origin(self._types[name][0]) is tuple else texts[-1]
        if not said:
            return self.first
        images = {"images": self.first.images} if "images" in self._fields else {}  # of which the query has no default
        return self.kind.from_dict(images | said | dict(self.fixed), "the link")


def viewer(name: str, elem_id: str, scene: dict[str, Any] | None = None) -> gr.HTML:
    """A drawing surface of ``static/``: shows a scene with ``plrc.NAME``; its value is the last event."""
    how: dict[str, Any] = {"html_template": '<div class="plrc-root"></div>', "js_on_load": _ON_LOAD % name}
    return gr.HTML(None, **how, elem_id=elem_id, apply_default_css=False, scene=_packed(scene), still="")


def showing(scene: dict[str, Any] | None, still: dict[str, Any] | None = None) -> gr.HTML:
    """The update of a viewer that shows this; what was ``still`` stays where it is not given."""
    return gr.HTML(scene=_packed(scene)) if still is None else gr.HTML(scene=_packed(scene), still=_packed(still))


def _packed(scene: dict[str, Any] | None) -> str:
    """One string: Gradio looks into every list that it sends for files, and a map has thousands of numbers."""
    return "" if scene is None else json.dumps(scene)


def lines(drawing: Drawing) -> str:
    """The numbers beside a figure, as HTML."""
    text = html.escape("\n".join(drawing.lines), quote=False)
    return f'<pre class="plrc-lines">{text}</pre>'
