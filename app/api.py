"""Named endpoints for programs: ``gradio_client.Client(URL).predict(..., api_name="/affinity")``."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.errors import said
from app.workbench import Workbench
from plrc.views import Drawing, draw_affinity, draw_correspondence, draw_embedding


def add_endpoints(bench: Workbench) -> None:
    """``/offered``, ``/affinity``, ``/correspondence`` and ``/embedding``, to be called inside the page's Blocks.

    Each of the last three answers with the recipe's ``lines`` (the numbers), ``rows`` (the table) and ``arrays``, as
    lists; the parameters are those of ``plrc.views.draw_affinity`` and so on.
    """

    def offered() -> dict[str, Any]:
        """The checkpoints and pictures of this server."""
        return {"checkpoints": bench.checkpoints, "pictures": bench.pictures}

    @said
    def affinity(
        picture: str,
        checkpoints: list[str],
        points: list[list[float]],
        negatives: list[list[float]] | None = None,
        layer: str | None = None,
        size: int = 448,
        temperature: float | None = None,
        difference: bool = False,
    ) -> dict[str, Any]:
        """Affinity maps of one picture to points [x, y], shares of its sides, by each checkpoint."""
        bench.check(checkpoints, [picture])
        return _answer(
            draw_affinity(
                [picture],
                checkpoints,
                points=points,
                negatives=negatives or [],
                together=True,
                layer=layer,
                size=size,
                temperature=temperature,
                difference=difference,
                session=bench.session,
            )
        )

    @said
    def correspondence(
        picture: str,
        checkpoints: list[str],
        other: str | None = None,
        regions: str | None = None,
        layer: str | None = None,
        size: int = 224,
        seed: int = 0,
        scale: float | None = None,
        within: int = 1,
    ) -> dict[str, Any]:
        """Matches between two views of a picture, or between it and another."""
        bench.check(checkpoints, [picture, *([other] if other else [])], regions=regions)
        return _answer(
            draw_correspondence(
                [picture],
                checkpoints,
                other=other or None,
                regions=regions or None,
                layer=layer,
                size=size,
                seed=seed,
                scale=scale,
                within=within,
                session=bench.session,
            )
        )

    @said
    def embedding(
        pictures: list[str],
        checkpoints: list[str],
        of: str = "regions",
        method: str = "pca",
        regions: str = "grid:4",
        layer: str | None = None,
        size: int = 224,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Points, regions or images in the plane."""
        bench.check(checkpoints, pictures, regions=regions)
        if len(pictures) > 200:
            raise ValueError(f"200 pictures are laid out at most here, not {len(pictures)}: use plrc embed for more")
        return _answer(
            draw_embedding(
                pictures,
                checkpoints,
                of=of,
                method=method,
                regions=regions,
                layer=layer,
                size=size,
                seed=seed,
                session=bench.session,
            )
        )

    for endpoint in (offered, affinity, correspondence, embedding):
        gr.api(endpoint, api_name=endpoint.__name__)


def _answer(drawing: Drawing) -> dict[str, Any]:
    arrays = {name: array.tolist() for name, array in drawing.arrays.items()}
    return {"lines": drawing.lines, "rows": drawing.rows, "arrays": arrays}
