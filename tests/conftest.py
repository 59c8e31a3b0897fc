"""Fixtures that more than one test module uses."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Before torch looks: ranks are processes on the CPU here, more of them than a machine may have GPUs.
os.environ["CUDA_VISIBLE_DEVICES"] = ""
if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores already
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# On busy cores OpenMP threads that spin while they wait make t-SNE several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


LOCAL = ("localhost", "127.", "::1", socket.gethostname())


def ask_nobody_else(event: str, arguments: tuple[object, ...]) -> None:
    """No test, and nothing that a test calls, asks another machine: an audit hook."""
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments
        host = address[0] if isinstance(address, tuple) else None
        if isinstance(host, str) and host and not host.startswith(LOCAL):
            raise OSError(f"tests ask no other machine, not {host}")


sys.addaudithook(ask_nobody_else)


@pytest.fixture
def shared_data() -> Callable[..., Path]:
    """`shared_data("imagenet-mini")`: the folder of a small set of real photos, or a skip where it is missing.

    `shared_data("x.npz", "facts")`: a file of what other programs compute.
    """

    def folder(name: str, kind: str = "data") -> Path:
        path = Path(__file__).resolve().parents[2] / "shared" / kind / name
        if not path.exists():
            pytest.skip(f"../shared/{kind}/{name} is missing, which only the project's CI needs to have")
        return path

    return folder


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training ends without its report, which takes longer than all the steps of a small one."""
    monkeypatch.setattr("plrc.report.before_and_after", lambda *_: [])


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Headless Chromium. It may be missing on a laptop, but not where the project is tested."""
    if not os.environ.get("CI"):
        pytest.importorskip("playwright", reason="playwright is missing: pip install -e '.[dev]'")
        if chromium() is None:
            pytest.skip("Chromium is missing (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Each window would load the parts of an address bar that nobody sees: 1.4 s of a slow core.
        bare = "--disable-features=WebUIOmniboxPopup,WebUIOmniboxAimPopup,PaintHolding,HttpsUpgrades,OptimizationHints"
        launched = driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox", bare])
        yield launched
        launched.close()
