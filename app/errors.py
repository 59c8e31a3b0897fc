"""What goes wrong is said in the page, in one sentence."""

from __future__ import annotations

import functools
import html
import inspect
from collections.abc import Callable
from typing import Any

import gradio as gr


def said(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of an event whose ValueError is shown in the page; anything else is a fault of ours, and logged."""

    def in_page(error: ValueError) -> gr.Error:
        return gr.Error(_sentence(error), duration=None, title="This cannot be shown", print_exception=False)

    @functools.wraps(handler)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except ValueError as error:
            raise in_page(error) from error

    @functools.wraps(handler)
    def generating(*args: Any, **kwargs: Any) -> Any:
        try:
            yield from handler(*args, **kwargs)
        except ValueError as error:
            raise in_page(error) from error

    return generating if inspect.isgeneratorfunction(handler) else wrapped


def _sentence(error: ValueError) -> str:
    """Gradio shows a message as HTML, and a file may be called ``<b>``."""
    text = html.escape(str(error), quote=False)
    return f"{text.rstrip('.')}."
