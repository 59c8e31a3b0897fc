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
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import gradio as gr
from gradio.layouts import Form

from plrc.options import Options, Point, Size, kind_of
from plrc.queries import Query
from plrc.views import Drawing
from plrc.views.images import are_several

from .workbench import MOST, Workbench

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
QUIET |= {"show_progress_on": []}  # else each event renews the progress of all that was ever an output
# Past the queue, which takes longer than most answers; Gradio shows no error that is raised there.
PROMPT: dict[str, Any] = QUIET | {"queue": False}
_STEP = 0.05  # of a slider of shares
IMAGES = ("images", "other", "others")  # fields whose values have short names
_WORDS: dict[str, dict[str, Any]] = {
    "checkpoints": {
        "info": f"Up to {MOST}, side by side. @key is the momentum encoder, random: an untrained network.",
        "max_choices": MOST,
    },
    "layer": {
        "label": "Layer or head",
        "info": "Automatic: the head by which training compared places, PLRC's projector; else the last map.",
        "none": "automatic",
    },
    "size": {
        "label": "Input size, pixels",
        "info": "Short side of what the networks see; automatic: twice that of their training views, or 448.",
        "none": "automatic",
    },
}
# Requests are numbered in the page, as its values are read: in what order they arrive, or are answered, tells nothing.
_NUMBERED = "(_, ...values) => [(plrc.asked = (plrc.asked || 0) + 1), ...values]"
# `scene` is what changes with each click, `still` the image, which is large and changes seldom, `live` the feature maps
# that the viewer has asked for, `stale` whether what is asked cannot be shown: what was seen before fades. A view that
# is opened while its answer is under way has none of them yet.
_ON_LOAD = """
const root = element.querySelector(".plrc-root");
const view = plrc.%s(root, (event) => { props.value = event; trigger("select"); });
const read = (text) => JSON.parse(text || "null");
const show = () => {
  const s = read(props.scene);
  if (props.scene) root.removeAttribute("data-waits");
  view.show(s && {...s, ...read(props.still)});
};
show();
watch(["scene", "still"], show);
watch(["stale"], () => root.classList.toggle("plrc-stale", Boolean(props.stale)));
watch(["live"], () => {
  if (!props.live) return;
  view.take?.(JSON.parse(props.live));
  props.live = ""; // some megabytes, which Gradio would copy with every event
});
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
            raise gr.Error(f"{text}.", duration=15, title=title, print_exception=False) from error

    return wrapped


class Tab:
    """A view of the page, a class of its own each.

    Attributes:
        name: in ``plrc.queries.VIEWS`` and in links. title: of the tab. kind: the query's class.
        start: fields → what they are at first, where that is not the default. fixed: fields without a control.
        words: fields → what their controls have besides, see ``control``. viewer: of ``static/``. top, below: the
            controls above it (→ how wide) and below it. anew: where these change, chosen points mean nothing.
        controls: of all other fields. outputs: what ``show`` updates. answered: of each page, for all its views:
            name → the number of the request that was answered last; those that have shown something.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[type[Options]]
    start: ClassVar[Mapping[str, Any]] = {}
    fixed: ClassVar[Mapping[str, Any]] = {}
    words: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    viewer: ClassVar[str]
    top: ClassVar[Mapping[str, int]] = {}
    below: ClassVar[Sequence[str]] = ()
    anew: ClassVar[Sequence[str]] = ("images",)
    outputs: Sequence[Any]

    def __init__(self, bench: Workbench, answered: gr.State | None = None) -> None:
        """Lays the view out; to be called inside a ``gr.Tab``."""
        self.bench, self.controls = bench, dict[str, Any]()
        self._fields = {field.name: field for field in dataclasses.fields(self.kind)}
        self._types = {name: kind_of(hint) for name, hint in typing.get_type_hints(self.kind).items()}
        given = {"checkpoints": bench.shown, "images": bench.images[:1]} | dict(self.begin()) | dict(self.fixed)
        self.first: Any = self.kind(**{name: value for name, value in given.items() if name in self._fields})
        self._number, self.answered = gr.Number(0, visible="hidden"), answered or gr.State({})
        self.build()

    def begin(self) -> Mapping[str, Any]:
        """Fields → what they are at first: ``start``; where there are folders of the user's, theirs in place of drawn
        scenes: the first folder for a set, some images for some."""
        if not self.bench.folders:
            return self.start
        folder = str(self.bench.folders[0])
        own: dict[str, Any] = {"dataset": folder, "among": folder, "regions": "superpixels:8"}
        several = are_several(next(iter(self.start.get("images", ())), ""))
        own["images"] = (folder,) if several else self.bench.images[:4]
        return {name: own.get(name, value) for name, value in self.start.items()}

    def build(self) -> None:
        """A viewer as wide as the page, its numbers and most controls beneath; points are chosen in the viewer."""
        self.row(self.top)
        self.shelf()
        above = self.above()
        shown, numbers = self.viewed()
        more = gr.Button("Other views", size="sm", elem_id=f"{self.name}-more", visible="seed" in self._fields)
        self.row(dict.fromkeys(self.below, 1))
        points = [name for name in self._fields if self._holds_points(name)]
        self.outputs = [shown, numbers, *(self.control(name, visible="hidden") for name in points), *above]
        self.rest()
        anew = self.listen_to(shown)
        if seed := self.controls.get("seed"):
            following = more.click(lambda now: int(now or 0) + 1, seed, seed, **QUIET)
            following.then(anew, **self._numbered(list(self.controls.values())))

    def row(self, names: Mapping[str, int]) -> None:
        """Controls beside each other: name → how wide. Of one image there is a chooser."""
        with gr.Row():
            for name, scale in names.items():
                chooses = name == "images" and name not in self.start
                lay: Any = gr.Column if chooses else Form  # which is what Gradio would lay into a column
                with lay(scale=scale, min_width=160 * scale):
                    self.image_chooser() if chooses else self.control(name)

    def viewed(self) -> list[Any]:
        """The viewer, and the numbers below it; laid out here."""
        root = f'<div class="plrc-root" data-waits="{self.first_view}"></div>'
        how: dict[str, Any] = {"html_template": root, "js_on_load": _ON_LOAD % self.viewer, "apply_default_css": False}
        shown = gr.HTML(None, **how, scene="", still="null", live="", stale="", elem_id=f"{self.name}-viewer")
        return [shown, gr.HTML(elem_id=f"{self.name}-numbers", apply_default_css=False)]

    @property
    def first_view(self) -> str:
        """What stands where the first view will be."""
        images = getattr(self.first, "images", ())
        of_set = not images or any(map(are_several, images))
        many = (getattr(self.first, "most", None) or 0) if of_set else len(images)
        return f"First view{f' of {many} images' * (many > 1)} …"

    def above(self) -> list[Any]:
        """Lays out what else a view has above its viewer; the last ones of ``outputs``."""
        return []

    def show(self, query: Any) -> list[Any]:
        """What is seen of a query: updates of ``outputs``. Raises a ValueError."""
        raise NotImplementedError

    def act(self, event: dict[str, Any], query: Any) -> list[Any]:
        """Answers an event of the viewer, with updates of ``outputs``."""
        raise NotImplementedError

    def listen_to(self, shown: gr.HTML) -> Callable[..., Any]:
        """Draws when a control is used, without points where they mean nothing; lets ``act`` answer the events of the
        viewer. To be called once all controls are there; returns the handler that draws without points."""
        inputs = list(self.controls.values())
        points = dict.fromkeys(filter(self._holds_points, self.controls), ())
        self._redraws([name for name in self.controls if name not in (*self.anew, *points)], self.show)
        anew = self._redraws(self.anew, lambda query: self.show(replace(query, **points)))
        for event in self.given:
            event.success(anew, **self._numbered(inputs))

        def act(number: int, answered: dict[str, int], event: dict[str, Any] | None, *values: Any) -> list[Any]:
            if not event:
                return self.nothing
            answer = self.seen(partial(self.act, event), values)
            return answer if "lacks" in event else self._in_turn(number, answered, answer)

        shown.select(act, **self._numbered([shown, *inputs]) | PROMPT | {"trigger_mode": "multiple"})
        return anew

    def seen(self, show: Callable[[Any], list[Any]], values: Sequence[Any], first: bool = False) -> list[Any]:
        """What is seen of the query that the components' values say: by ``show``, or of its ``fault``."""
        try:
            return show(self.query(values))
        except ValueError as error:
            return self.fault(error, first)

    def drawings(self, query: Any) -> list[Any]:
        """What is exported of a query. Raises a ValueError."""
        return [self.bench.draw(query)]

    def control(self, name: str, component: Any = None, **special: Any) -> Any:
        """The control of a field, laid out here: from its type, choices, range and help, or a special one.

        special: what the component has otherwise (label, info …); ``none``, what stands for None in a list.
        """
        about, (kind, optional) = self._fields[name].metadata, self._types[name]
        special = _WORDS.get(name, {}) | dict(self.words.get(name, {})) | special
        value = self._shown(name, getattr(self.first, name), special.get("multiselect", True))
        unit = f", {about['unit']}" * bool(about["unit"])
        text = about["help"] if about["help"][1].isdigit() else f"{about['help'][0].upper()}{about['help'][1:]}"
        how: dict[str, Any] = {"label": name.replace("_", " ").capitalize() + unit, "info": f"{text}."}
        how |= {"elem_id": f"{self.name}-{name}"} | special
        low, high, step = _STEP if about["above"] == 0 else about["low"], about["high"], 1 if kind is int else _STEP
        none = [(how.pop("none", "–"), "")] if optional else []
        choices = self.bench.choices(name, how.get("multiselect", True)) or about["choices"]
        if component is not None or how.get("visible") == "hidden":
            component = component or gr.Textbox(value, **how)
        elif choices or typing.get_origin(kind) is tuple:
            how = ({"multiselect": True} if typing.get_origin(kind) is tuple else {}) | how
            free = not about["choices"]  # a link may name what is not listed; the workbench has the last word
            component = gr.Dropdown([*none, *choices], value=value, allow_custom_value=free, **how)
        elif kind in (int, float) and not (low is None or high is None or high > 100 or optional):
            component = gr.Slider(low, high, value, step=step, **how)
        elif kind in (int, float) and not optional:  # which would take 0 for what is not given
            component = gr.Number(value, precision=0 if kind is int else None, minimum=low, maximum=high, **how)
        else:
            component = gr.Checkbox(value, **how) if kind is bool else gr.Textbox(value, **how)
        self.controls[name] = component
        if name in ("checkpoints", "runs", "detectors"):  # what has come since the start
            component.focus(lambda: gr.Dropdown(choices=self.bench.choices(name)), None, component, **QUIET)
        return component

    def image_chooser(self) -> None:
        """One image: of a list, or one's own; ``given``: the event of the latter. ``shelf`` adds thumbnails."""
        info = "Choose, or type a name such as scenes#57."
        chooser = self.control("images", multiselect=False, label="Image", info=info)
        button = gr.UploadButton("Upload an image", size="sm", file_types=["image"], type="filepath")

        @said
        def accept(file: str | None) -> Any:
            if file is None:
                return gr.skip()
            self.bench.accept(Path(file))
            return self.choosing(f"{Path(file).name} (uploaded)", file)

        self.given = [button.upload(accept, button, chooser, show_progress="hidden", api_visibility="private")]

    def choosing(self, label: str, spec: str) -> Any:
        """The update of the chooser that chooses an image; it comes first if it is not listed."""
        listed = self.bench.choices("images", several=False)
        own = [] if any(spec == value for _, value in listed) else [(label, spec)]
        return gr.Dropdown(choices=[*own, *listed], value=spec)

    def shelf(self) -> None:
        """Thumbnails to choose the image from, as wide as the page."""
        with gr.Accordion("Thumbnails", open=False, elem_id=f"{self.name}-shelf") as shelf:
            search = gr.Textbox("", label="Search", placeholder="part of a name", elem_id=f"{self.name}-search")
            how: dict[str, Any] = {"allow_preview": False, "object_fit": "cover", "height": 300, "buttons": []}
            gallery = gr.Gallery(show_label=False, elem_id=f"{self.name}-thumbnails", **how)
        there = gr.State([])

        @said
        def look(text: str) -> list[Any]:
            found, every = self.bench.thumbnails(text)
            told = f"Search ({len(found)} of {every} images)" if found else "Search (no image has such a name)"
            small = [(image, Path(label).name) for image, label, _ in found]
            return [small, [(label, spec) for _, label, spec in found], gr.Textbox(label=told)]

        def pick(shown: list[tuple[str, str]], at: gr.SelectData) -> Any:
            return self.choosing(*shown[at.index])

        looked = [gallery, there, search]
        gr.on([shelf.expand, search.change], look, search, looked, trigger_mode="always_last", **QUIET)
        self.given.append(gallery.select(pick, there, self.controls["images"], **QUIET))

    def rest(self) -> None:
        """All fields that have no control yet, in a part that is closed."""
        with gr.Accordion("More", open=False), gr.Row():
            for name in [name for name in self._fields if name not in (*self.controls, *self.fixed)]:
                with Form(scale=1, min_width=220):
                    self.control(name, visible=name != "device" or len(self.bench.devices) > 1)

    def answering(self, answer: Callable[[Any], Any]) -> Callable[..., Any]:
        """The handler of the controls' values that answers their query."""

        def handle(*values: Any) -> Any:
            try:
                return answer(self.query(values))
            except ValueError as error:
                raise ValueError(self.worded(error)) from error

        return said(handle)

    def _numbered(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """How an event asks for ``outputs``: its handler gets the request's number and ``answered`` first. Of those
        that come while one is answered the last is asked; by itself Gradio forgets it."""
        how: dict[str, Any] = {"outputs": self.outputs, "js": _NUMBERED, "trigger_mode": "always_last", **QUIET}
        return how | {"inputs": [self._number, self.answered, *inputs]}

    def _in_turn(self, number: int, answered: dict[str, int], answer: list[Any]) -> list[Any]:
        """The answer to a request, or nothing where a later one has been answered."""
        if number < answered.get(self.name, 0):
            return self.nothing
        answered[self.name] = number
        return answer

    def fault(self, error: ValueError, first: bool = False) -> list[Any]:
        """What is seen of a query that cannot be shown, where Gradio would not tell of an error. first: it is all that
        has been seen so far."""
        if hasattr(self, "viewer"):  # ``live`` of None tells it that there is no answer
            shown: Any = showing(scene=None) if first else gr.HTML(live="null", stale="1")
        else:
            shown = "" if first and isinstance(self.outputs[0], gr.HTML) else gr.skip()
        return [shown, lines([f"This cannot be shown: {self.worded(error)}"]), *self.nothing[2:]]

    def worded(self, error: ValueError) -> str:
        """An error's sentence, in which a field that it begins with has the name that it has in the page."""
        flag, _, rest = str(error).partition(" ")
        control = self.controls.get(flag.removeprefix("--").replace("-", "_")) if flag.startswith("--") else None
        return f"{control.label.partition(',')[0]} {rest}" if control else str(error)

    @property
    def nothing(self) -> list[Any]:
        """The answer that changes nothing."""
        return [gr.skip()] * len(self.outputs)

    def _redraws(self, names: Iterable[str], show: Callable[[Any], list[Any]]) -> Callable[..., Any]:
        """Draws anew when one of these controls is used; returns the handler of that."""
        inputs = list(self.controls.values())

        def handle(number: int, answered: dict[str, int], *values: Any) -> list[Any]:
            return self._in_turn(number, answered, self.seen(show, values))

        events: list[Any] = []
        for name in names:
            component = self.controls[name]
            if name == "checkpoints" and "layer" in self.controls:
                self.follow_checkpoints().then(handle, **self._numbered(inputs))
            elif isinstance(component, gr.Number | gr.Textbox):  # a number that is being typed is none yet
                events += [component.submit, component.blur]
            else:
                events.append(used(component))
        gr.on(events, handle, **self._numbered(inputs))  # one: a page loads faster
        return handle

    def follow_checkpoints(self) -> Any:
        """Other checkpoints have other layers; the chosen one stays if all of them have it. Returns the event."""
        chooser, layer = self.controls["checkpoints"], self.controls["layer"]

        def update(checkpoints: list[str], chosen: str) -> Any:
            try:
                self.bench.check(Query(checkpoints=tuple(checkpoints)))
                layers = self.bench.layers(checkpoints)
            except ValueError:  # which the view tells
                return gr.skip()
            return gr.Dropdown(choices=[("automatic", ""), *layers], value=chosen if chosen in layers else "")

        return used(chooser)(update, [chooser, layer], layer, **QUIET, trigger_mode="always_last")

    def _holds_points(self, name: str) -> bool:
        return typing.get_args(self._types[name][0])[:1] == (Point,)

    def query(self, values: Sequence[Any]) -> Any:
        """What the components' values say; of the first ones, where the last are not asked for."""
        said = dict(zip(self.controls, values, strict=False))
        for name, value in said.items():
            kind, optional = self._types[name]
            if self._holds_points(name):
                said[name] = (value or "").split()
            elif name in IMAGES and value:
                said[name] = self.bench.long(value) if isinstance(value, str) else [*map(self.bench.long, value)]
            elif value in ("", None):
                said[name] = None if optional else () if typing.get_origin(kind) is tuple else value
        return self.kind(**said, **self.fixed)

    def values(self, query: Options) -> list[Any]:
        """The opposite of ``query``."""
        of = self.controls.items()
        return [self._shown(name, getattr(query, name), getattr(part, "multiselect", True)) for name, part in of]

    def _shown(self, name: str, value: Any, many: bool | None) -> Any:
        """A field's value as its component has it."""
        kind, _ = self._types[name]
        if value is None:
            return None if kind in (int, float) else ""
        if typing.get_origin(kind) is not tuple:
            return str(value) if kind is Size else value
        texts = list(map(str, value))
        return " ".join(texts) if self._holds_points(name) else texts if many else next(iter(texts), None)

    def link(self, query: Options) -> str:
        """The query string: what differs from the query's defaults, as another server may begin with others."""
        said: dict[str, Any] = {"view": self.name}
        for name in query.changed():
            value = getattr(query, name)
            several = isinstance(value, tuple) and not isinstance(value, Point | Size)
            texts = map(str, value if several else [value])
            said[name] = [self.bench.short(text) if name in IMAGES else text for text in texts]
        return urlencode({name: value for name, value in said.items() if name not in self.fixed}, doseq=True)

    def read(self, asked: Mapping[str, list[str]]) -> Any:
        """The opposite of ``link``; what the page begins with, if it says nothing of the query.

        Raises a ValueError that names the field if a value cannot be read, is out of range, or has no control here.
        """
        said: dict[str, Any] = {}
        for name in [name for name in asked if name in self._fields]:
            if name in self.fixed:
                raise ValueError(f"the link's {name} cannot be given in the page: use the command line")
            texts = [self.bench.long(text) if name in IMAGES else text for text in asked[name]]
            said[name] = texts if typing.get_origin(self._types[name][0]) is tuple else texts[-1]
        if not said:
            return self.first
        images = {"images": self.first.images} if "images" in self._fields else {}  # of which the query has no default
        return self.kind.from_dict(images | said | dict(self.fixed), "the link")


def used(component: Any) -> Any:
    """The event of a user's having changed a control's value; of a list for several values Gradio's ``input`` does not
    tell of one that is typed."""
    return component.select if getattr(component, "multiselect", False) else component.input


def showing(**parts: dict[str, Any] | None) -> gr.HTML:
    """The update of a viewer that shows this ``scene``; what is not given of it, ``still`` and ``live``, stays.

    Each is one string: Gradio looks into every list that it sends for files, and a map has thousands of numbers.
    """
    strings: dict[str, Any] = {name: json.dumps(part) for name, part in parts.items()}
    return gr.HTML(**strings | ({"stale": ""} if "scene" in parts else {}))


def lines(told: Drawing | Sequence[str]) -> str:
    """The numbers beside a figure, or other lines, as HTML."""
    text = html.escape("\n".join(told.lines if isinstance(told, Drawing) else told), quote=False)
    return f'<pre class="plrc-lines">{text}</pre>'
