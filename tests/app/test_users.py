"""Many users at once: each sees the own points on the own picture, and what is kept stays within its bound."""

from __future__ import annotations

import numpy as np

from plrc.queries import Affinity
from plrc.views import draw

PANELS = "#affinity-viewer .plrc-canvas"
POINTS = "document.querySelector('#affinity-points textarea').value"
USERS, ROUNDS = 6, 2
TAKES = 60_000  # ms


def test_many_users_at_once(browser, server):
    contexts = [browser.new_context(viewport={"width": 800, "height": 700}) for _ in range(USERS)]
    pages = [context.new_page() for context in contexts]
    for user, page in enumerate(pages):
        page.goto(f"{server.url}?images=scenes%23{user}&size=112&checkpoints=plrc:tiny&checkpoints=random:tiny")
    for page in pages:
        page.wait_for_function(f"document.querySelectorAll('{PANELS}')[1]?.dataset.drawn && {POINTS}", timeout=TAKES)
    for round_ in range(ROUNDS):
        places = [((user + 0.5) / USERS, (round_ + 0.5) / ROUNDS) for user in range(USERS)]  # each elsewhere
        for page, (x, y) in zip(pages, places, strict=True):  # nobody waits for another's answer
            surface = page.locator(PANELS).first
            box = surface.bounding_box()
            surface.click(position={"x": x * box["width"], "y": y * box["height"]}, no_wait_after=True)
        for page, place in zip(pages, places, strict=True):
            page.wait_for_function(
                f"(place) => {{ const p = {POINTS}.split(',').map(Number);"
                " return p.length === 2 && p.every((v, i) => Math.abs(v - place[i]) < 0.02); }",
                arg=place,
                timeout=TAKES,
            )
    for user, page in enumerate(pages):
        point = [float(v) for v in page.evaluate(POINTS).split(",")]
        names = ("plrc:tiny", "random:tiny")
        alone = draw(Affinity(images=(f"scenes#{user}",), checkpoints=names, points=(point,), size=112))
        for row in alone.rows:  # the numbers of the own picture and the own point
            span = f"{row['lowest']:.2f} to {row['highest']:.2f}".replace("-", "−")
            own = span if row["AUC"] == "" else f"AUC {row['AUC']:.2f} · best IoU {row['IoU']:.2f}"
            shown = "(own) => document.querySelector('#affinity-viewer').innerText.includes(own)"
            page.wait_for_function(shown, arg=own, timeout=TAKES)
    for context in contexts:
        context.close()


def test_memory_stays_within_the_bound(server):
    """Feature maps of 30 pictures would take more than 120 MB; 40 are allowed."""
    from gradio_client import Client

    client = Client(server.url, verbose=False)

    def ask(i: int) -> None:
        answer = client.predict(images=[f"scenes#{i}"], points=[[0.5, 0.5]], api_name="/affinity")
        assert np.isfinite(answer["arrays"]["plrc:tiny 0"]).all()

    for i in range(10):  # allocators have what they want
        ask(i)
    before = server.memory()
    for i in range(10, 40):
        ask(i)
    assert server.memory() - before < 70
