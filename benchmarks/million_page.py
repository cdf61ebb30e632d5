"""A map of 1,048,576 points in a real browser: bytes sent, time of a frame, what a box selects.

    python -m benchmarks.million_page [points]

The page is drawn by the component that draws large maps, from places around known groups: how long
it takes until the points are there, how many bytes came, what moving costs the main thread a frame
(by the script, and until the picture is there, on a Chromium without a GPU), and whether the rows
inside a box are those that plain comparisons find. Needs Chromium and Playwright.
"""

import json
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from core.settings import REPOSITORY
from tests.browsing import CHROMIUM, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

N = 1_048_576
GROUP = 64
_TURNS = 60
_SELECTED = "inside the box"


def places(n: int) -> pd.DataFrame:
    """A table as maps have it, with `n` points around the middles of groups of about 64."""
    chance = np.random.default_rng(0)
    n_groups = max(2, n // GROUP)
    group = chance.integers(0, n_groups, n)
    middles = chance.normal(0, 8, (n_groups, 2))
    xy = middles[group] + chance.normal(0, 0.05, (n, 2))
    return pd.DataFrame(
        {
            "umap_x": xy[:, 0],
            "umap_y": xy[:, 1],
            "sae": pd.Categorical(["made-up"] * n),
            "sae_width": n,
            "latent_idx": np.arange(n),
            "group": group,
        }
    )


def show(n: int) -> None:
    """The page: the map, and how many points the last box held."""
    import streamlit as st  # noqa: TID251 - the page that is measured

    from core.splitting.selection import rows_inside
    from core.splitting.view import MapView
    from pages.parts.splitting import point_map

    st.set_page_config(layout="wide")
    kept: Any = st.cache_resource(_kept)(n)
    points, packed = kept

    def area(x: Any, y: Any) -> None:
        st.session_state.box = [*x, *y]
        st.session_state.rows = rows_inside(points, list(zip(x, y, strict=True)))

    rows = st.session_state.get("rows", ())
    point_map.draw(
        points,
        packed,
        MapView(),
        hits=np.flatnonzero(points["group"].to_numpy() == 7).tolist(),
        lassoed=rows,
        labels=None,
        selected=None,
        on_click=lambda row: None,
        on_area=area,
    )
    st.text(f"{len(rows)} {_SELECTED} {json.dumps(st.session_state.get('box', []))}")


def _kept(n: int) -> tuple[pd.DataFrame, bytes]:
    from core.splitting.colors import palette, point_colors
    from core.splitting.figure import narrowest_first
    from core.splitting.packed import PointTokens, packed_points

    points, colors = places(n), palette(dark=False)
    chance = np.random.default_rng(1)
    tokens = PointTokens(chance.integers(0, 50_000, (n, 3)), [f"t{k}" for k in range(50_000)])
    coloring = point_colors(points, "width", None, colors)
    return points, packed_points(points, coloring, colors, narrowest_first(points), tokens=tokens)


@contextmanager
def served(n: int) -> "Iterator[str]":
    """Address of the page with `n` points."""
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", __file__]
    options = ["--server.port", str(port), "--server.address", "127.0.0.1"]
    quiet = ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
    process = subprocess.Popen(
        [*command, *options, *quiet, "--", "--page", str(n)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


def measure(page: "Page", address: str, n: int) -> None:
    """Print what the page costs, and whether the box is right."""
    received = [0]
    traffic = page.context.new_cdp_session(page)
    traffic.send("Network.enable")
    traffic.on(
        "Network.webSocketFrameReceived",
        lambda it: received.__setitem__(0, received[0] + len(it["response"]["payloadData"])),
    )
    _open(page, address)
    page.locator("[data-drawn]").wait_for(timeout=300_000)
    page.wait_for_timeout(3000)
    before, began = received[0], time.monotonic()
    page.reload()  # now the server has the points
    page.locator(f"[data-drawn='{n}']").wait_for(timeout=300_000)
    _say(f"{n:,} points are there after {time.monotonic() - began:.1f} s")
    page.wait_for_timeout(2000)
    # Binary messages are reported in base64.
    _say(f"{(received[0] - before) * 3 / 4 / 1e6:.1f} MB came over the connection")
    canvas = page.locator(".point-map canvas").last
    box = canvas.bounding_box()
    assert box is not None
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(*middle)
    for what, turn in (("zooming", _zoom), ("moving", _drag)):
        page.evaluate("() => { pointMaps.splitting_points.frames.length = 0 }")
        turn(page, middle)
        frames: Any = page.evaluate("() => pointMaps.splitting_points.frames")
        script, took = (sorted(it[name] for it in frames) for name in ("script", "took"))
        _say(
            f"{what}: {len(frames)} frames, of the script {median(script):.1f} ms (at most "
            f"{script[-1]:.1f}), until drawn {median(took):.0f} ms (at most {took[-1]:.0f}), with "
            f"{min(it['points'] for it in frames):,} points or more"
        )
    _box(page, box, n)


def _zoom(page: "Page", middle: tuple[float, float]) -> None:
    for turn in range(_TURNS):
        page.mouse.wheel(0, -40 if turn < _TURNS / 2 else 40)
        page.wait_for_timeout(20)


def _drag(page: "Page", middle: tuple[float, float]) -> None:
    page.mouse.down()
    for turn in range(_TURNS):
        page.mouse.move(middle[0] + 3 * turn, middle[1] + turn)
        page.wait_for_timeout(20)
    page.mouse.up()


def _box(page: "Page", box: Any, n: int) -> None:
    page.wait_for_timeout(1500)  # the zoom has been told
    page.get_by_role("button", name="Box", exact=True).click()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.55 * box["height"], steps=5)
    began = time.monotonic()
    page.mouse.up()
    said = page.get_by_text(re.compile(rf"^[1-9]\d* {_SELECTED}"))
    said.wait_for(timeout=60_000)
    count, _, corners = said.inner_text().partition(f" {_SELECTED} ")
    seconds = time.monotonic() - began
    x, y = np.array(json.loads(corners)).reshape(2, -1)
    xy = places(n)[["umap_x", "umap_y"]].to_numpy()
    inside = ((xy > (x.min(), y.min())) & (xy < (x.max(), y.max()))).all(axis=1)
    _say(
        f"a box of {int(count):,} points after {seconds:.1f} s; plain comparisons find "
        f"{int(inside.sum()):,}"
    )
    assert int(count) == int(inside.sum())


def _open(page: "Page", address: str) -> None:
    for _ in range(120):
        with suppress(Exception):
            page.goto(address)
            return
        time.sleep(0.5)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(n: int) -> None:
    """Serve the page, and look at it."""
    from playwright.sync_api import sync_playwright

    with served(n) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        measure(page, address, n)
        browser.close()


if __name__ == "__main__":
    if "--page" in sys.argv:
        show(int(sys.argv[-1]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else N)
