"""Many users at once: each sees the own points on the own picture, and what is kept stays within its bound."""

from __future__ import annotations

import numpy as np

from plrc.queries import Affinity
from plrc.views import draw

PANELS = "#affinity-viewer .plrc-canvas"
USERS, ROUNDS = 10, 3
TAKES = 60_000  # ms


def of(user: int, round_: int) -> tuple[float, float]:
    """Where a user clicks: nobody else does so there."""
    return (user + 0.5) / USERS, (round_ + 0.5) / ROUNDS


def asked(page):
    text = page.locator("#affinity-points textarea").input_value()
    return [tuple(map(float, point.split(","))) for point in text.split()]


def test_ten_users_at_once(browser, server):
    contexts = [browser.new_context(viewport={"width": 800, "height": 700}) for _ in range(USERS)]
    pages = [context.new_page() for context in contexts]
    for user, page in enumerate(pages):
        page.goto(f"{server.url}?images=scenes%23{user}&size=112&checkpoints=plrc:tiny&checkpoints=random:tiny")
    for page in pages:
        page.wait_for_function(
            f"document.querySelectorAll('{PANELS}')[1]?.dataset.drawn && "
            "document.querySelector('#affinity-points textarea').value",
            timeout=TAKES,
        )
    for round_ in range(ROUNDS):
        boxes = [page.locator(PANELS).first.bounding_box() for page in pages]
        for user, (page, box) in enumerate(zip(pages, boxes, strict=True)):  # nobody waits for another's answer
            x, y = of(user, round_)
            page.locator(PANELS).first.click(
                position={"x": x * box["width"], "y": y * box["height"]}, no_wait_after=True
            )
        for user, page in enumerate(pages):
            x, y = of(user, round_)
            page.wait_for_function(
                "([x, y]) => {"
                " const p = document.querySelector('#affinity-points textarea').value.split(',').map(Number);"
                " return p.length === 2 && Math.abs(p[0] - x) < 0.02 && Math.abs(p[1] - y) < 0.02; }",
                arg=[x, y],
                timeout=TAKES,
            )
    for user, page in enumerate(pages):
        ((x, y),) = asked(page)
        names = ("plrc:tiny", "random:tiny")
        alone = draw(Affinity(images=(f"scenes#{user}",), checkpoints=names, points=((x, y),), size=112))
        for row in alone.rows:  # the numbers of the own picture and the own point
            own = (
                f"AUC {row['AUC']:.2f} · best IoU {row['IoU']:.2f}"
                if row["AUC"] != ""
                else (f"{row['lowest']:.2f} to {row['highest']:.2f}".replace("-", "−"))
            )
            shown = "(own) => document.querySelector('#affinity-viewer').innerText.includes(own)"
            page.wait_for_function(shown, arg=own, timeout=TAKES)
    for context in contexts:
        context.close()


def test_memory_stays_within_the_bound(serve):
    """Feature maps of 40 pictures would take more than 170 MB; 40 are allowed."""
    from gradio_client import Client

    server = serve("--checkpoint=plrc:tiny", "--cache=40")
    client = Client(server.url, verbose=False)

    def ask(i: int) -> None:
        answer = client.predict(images=[f"scenes#{i}"], points=[[0.5, 0.5]], api_name="/affinity")
        assert np.isfinite(answer["arrays"]["plrc:tiny 0"]).all()

    for i in range(12):  # allocators have what they want
        ask(i)
    before = server.memory()
    for i in range(12, 52):
        ask(i)
    assert server.memory() - before < 90
    server.stop()
