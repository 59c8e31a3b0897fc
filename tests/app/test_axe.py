"""WCAG 2.2 AA of every view, light and dark, as far as axe can tell (axe-core, in a package of its own)."""

from __future__ import annotations

import pytest

TAKES = 120_000
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# What the theme changes are colours.
ASKED = {"light": {"type": "tag", "values": LEVELS}, "dark": {"type": "rule", "values": ["color-contrast"]}}


def test_axe_finds_nothing(visit):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = visit("?images=scenes%233&size=64&checkpoints=random:tiny&__theme=light", width=1600)
    page.locator("#affinity-viewer .plrc-map").nth(1).wait_for(timeout=TAKES)
    page.add_style_tag(content="* { transition: none !important; }")
    found = {}
    for tab in page.get_by_role("tab").all():
        tab.click(timeout=TAKES)
        page.wait_for_timeout(500)  # what a tab shows when it is first chosen comes from the server
        for theme, asked in ASKED.items():
            page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", theme == "dark")
            told = axe.run(page, options={"runOnly": asked, "resultTypes": ["violations"]}).response["violations"]
            found[tab.inner_text(), theme] = [(one["id"], node["target"]) for one in told for node in one["nodes"]]
    assert len(found) > 6
    assert not any(found.values()), found
