"""WCAG 2.2 AA of every view, light and dark, as far as axe can tell (axe-core, in a package of its own)."""

from __future__ import annotations

import pytest

TAKES = 120_000
LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing(visit, theme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    page = visit(f"?images=scenes%233&size=64&checkpoints=random:tiny&__theme={theme}", width=1600)
    page.locator("#affinity-viewer .plrc-map").nth(1).wait_for(timeout=TAKES)
    found = {}
    for tab in page.get_by_role("tab").all():
        tab.click(timeout=TAKES)
        page.wait_for_timeout(500)  # the look that a tab has when it is chosen comes slowly
        told = axe.run(page, options={"runOnly": {"type": "tag", "values": LEVELS}}).response["violations"]
        found[tab.inner_text()] = [(one["id"], node["target"]) for one in told for node in one["nodes"]]
    assert len(found) > 3
    assert not any(found.values()), found
