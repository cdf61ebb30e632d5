"""Many readers of one server in real browser contexts, while two long jobs run.

    python -m benchmarks.hosting --sessions 20 --minutes 5

First one reader alone, on a server of the kind that `make run` starts, does everything that the
readers will do; the numbers that the pages showed are what must be seen again. Then the hosted app
starts on a copy of that store, behind a proxy that names people. Two of them have long texts read.
Each of the others has a Chromium context, an SAE, latents and texts of their own. The minutes begin
when all of them have opened their first page; from then on each reads for a minute, on the
average, between two steps. Chromium, both servers and this script share the machine. Needs Chromium
and Playwright; runs on the demo, offline.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, zip_longest
from pathlib import Path
from typing import Any

from benchmarks.hosting_reader import Reader, Seen, Step, numbers_of, open_home, steps_of, take
from benchmarks.hosting_tally import Tally, Watch, print_tally
from core.settings import REPOSITORY
from tests.browsing import CHROMIUM, demo_server
from tests.loopback_proxy import ADDRESS, identity_proxy

SAES = ("blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre", "blocks.3.hook_resid_pre")
READ_AT_LENGTH = ("blocks.0.hook_resid_pre", "blocks.3.hook_resid_post")
LONG = 5_000_000
"""Tokens of the texts that are read all the time."""
ROUNDS = 2
"""After so many, a reader begins again with their latents and texts."""
LOOKS_AGAIN = 6
_AFTER_ONE_LEFT = 15
Known = dict[str, Sequence[str]]
"""The numbers of each view, by the reader's name and `Step.shows`."""
POLICY = f"""
[identity]
source = "proxy"
proxies = ["{ADDRESS}"]
[access]
admins = ["ada@example.org"]
runners = ["@runners.org"]
readers = ["@readers.org"]
[server]
drain_seconds = 5
"""
WORDS = (
    *("array", "axis", "mean", "index", "table", "frame", "matrix", "vector", "random", "sample"),
    *("model", "score", "label", "value", "sparse", "graph", "node", "edge", "weight", "column"),
    *("row", "shape", "dtype", "copy", "view", "slice", "sorted", "unique", "missing", "default"),
)
OPTIONS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]


def readers(n: int) -> list[Reader]:
    """The same ones at each run."""
    chance = random.Random(0)
    found = []
    for number in range(n):
        latents = tuple(chance.sample(range(512), ROUNDS))
        texts = tuple(" ".join(chance.sample(WORDS, 12)) for _ in range(ROUNDS))
        found.append(Reader(f"r{number}@readers.org", SAES[number % len(SAES)], latents, texts))
    return found


async def alone(address: str, people: list[Reader], tally: Tally, *, rounds: int = ROUNDS) -> Known:
    """What each reader sees who is the only one."""
    from playwright.async_api import async_playwright

    found: Known = {}
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        for reader in people:
            context = await browser.new_context(viewport={"width": 1440, "height": 900})
            page = await context.new_page()
            await open_home(page, address, reader)
            steps = [step for number in range(rounds) for step in steps_of(reader, number)]
            for step in [*steps, steps_of(reader, rounds)[0]]:
                seen = await take(page, step)
                tally.note("cached" if step.cached else "typed", seen.seconds)
                name = f"{reader.name} {step.shows}"
                if len(found.setdefault(name, seen.numbers)) < len(seen.numbers):
                    found[name] = seen.numbers  # something on the page was still to come before
            await context.close()
        await browser.close()
    return found


async def together(
    doors: dict[str, str],
    people: list[Reader],
    known: Known,
    tally: Tally,
    *,
    minutes: float,
    think: float,
    watch: Watch,
) -> None:
    """All of them at once; `doors` is the address that each has."""
    from playwright.async_api import async_playwright

    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        jobs = [
            asyncio.create_task(_keep_busy(browser, doors[name], sae))
            for name, sae in zip(_runners(), READ_AT_LENGTH, strict=True)
        ]
        await asyncio.sleep(20)  # both are at it
        all_there = asyncio.Barrier(len(people))
        sessions = [
            _session(
                *(browser, doors[it.name], it, known, tally, all_there),
                seconds=60 * minutes,
                think=think,
                wait=place,
            )
            for place, it in enumerate(people)
        ]
        for ended in await asyncio.gather(*sessions, return_exceptions=True):
            if isinstance(ended, BaseException):
                tally.faults[f"session: {str(ended).splitlines()[0]}"] += 1
        for job in jobs:
            if job.done():
                tally.faults[f"long job: {str(job.exception()).splitlines()[0]}"] += 1
        watch.note("at the end")
        await asyncio.sleep(1)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await browser.close()


async def _session(
    browser: Any,
    address: str,
    reader: Reader,
    known: Known,
    tally: Tally,
    all_there: asyncio.Barrier,
    *,
    seconds: float,
    think: float,
    wait: int,
) -> None:
    from playwright.async_api import Error as PlaywrightError

    chance = random.Random(reader.name)
    await asyncio.sleep(wait)  # they do not all come in the same second
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    began = time.monotonic()
    try:
        await open_home(page, address, reader)
        tally.note("opened", time.monotonic() - began)
    finally:
        # The machine is the readers' as well: twenty browsers that start keep it busy for minutes.
        await all_there.wait()
    over, number = time.monotonic() + seconds, 0
    while True:
        for step in steps_of(reader, number):
            await asyncio.sleep(chance.uniform(0.5 * think, 1.5 * think))
            if time.monotonic() > over:
                await context.close()
                return
            try:
                seen = await take(page, step)
            except PlaywrightError as error:
                tally.faults[f"{step.kind}: {str(error).splitlines()[0]}"] += 1
                await open_home(page, address, reader)
                number = -1
                break
            tally.note("cached" if step.cached else "typed", seen.seconds)
            await _compare(page, reader, step, seen, known[f"{reader.name} {step.shows}"], tally)
        number += 1


async def _compare(
    page: Any, reader: Reader, step: Step, seen: Seen, right: Sequence[str], tally: Tally
) -> None:
    numbers = seen.numbers
    for _ in range(LOOKS_AGAIN):
        if list(numbers) == list(right):
            break
        tally.again += 1
        await asyncio.sleep(0.5)
        numbers = await numbers_of(page)
    tally.numbers += len(right)
    for a, b in zip_longest(right, numbers, fillvalue=""):
        if a != b:
            tally.wrong.append((reader.name, step, a, b))


async def _keep_busy(browser: Any, address: str, sae: str) -> None:
    """Have a long text read; where it has been, a longer one."""
    context = await browser.new_context()
    page = await context.new_page()
    page.set_default_timeout(120_000)
    try:
        for times in count(1):
            link = f"/latent?model=docs-small&release=docs-small-res&sae={sae}&latent=0&corpus=docs"
            await page.goto(f"{address}{link}&tokens={LONG * times}")
            await page.get_by_role("button", name="Read this text").click()
            await page.get_by_text("Strongest examples").first.wait_for(timeout=0)
    finally:
        # What the text takes is no longer the server's when its memory is looked at.
        await page.get_by_role("button", name="Cancel").first.click()
        await page.get_by_text("This was cancelled").first.wait_for()


def _runners() -> list[str]:
    return [f"job{number}@runners.org" for number in range(len(READ_AT_LENGTH))]


@contextmanager
def doors_of(server: str, names: list[str]) -> Iterator[dict[str, str]]:
    """Address of a proxy for each person, which names them."""
    with ExitStack() as stack:
        proxies = {name: identity_proxy(server, {"X-Forwarded-Email": name}) for name in names}
        yield {name: stack.enter_context(proxy) for name, proxy in proxies.items()}


def measure(
    folder: Path, *, sessions: int, minutes: float, think: float, rest: float
) -> tuple[Tally, Tally, Watch]:
    """What one reader alone saw, what all saw together, and the server's memory."""
    people, apart, tally = readers(sessions), Tally(), Tally()
    first, second = folder / f"alone-{sessions}", folder / "hosted"
    file = first / "seen.json"
    if not file.exists():
        first.mkdir(parents=True, exist_ok=True)  # what was computed before it broke off is kept
        with demo_server(REPOSITORY / "demo", first) as address:
            known = asyncio.run(alone(address, people, apart))
        file.write_text(json.dumps({"known": known, "seconds": apart.seconds}))
    content = json.loads(file.read_text())
    known, apart.seconds = content["known"], content["seconds"]
    _say(f"Alone: {len(known)} views, {sum(map(len, known.values())):,} numbers.")
    shutil.rmtree(second, ignore_errors=True)
    second.mkdir()
    shutil.copytree(first / "cache", second / "cache")
    policy = second / "hosting.toml"
    policy.write_text(POLICY)
    hosted = demo_server(
        REPOSITORY / "demo", second, module="tests.serve_hosted", SAE_EXPLORER_HOSTING=str(policy)
    )
    names = [*_runners(), *(it.name for it in people)]
    with (
        hosted as address,
        doors_of(address, names) as doors,
    ):
        watch = Watch()
        # Each SAE is in memory, and each kind of view has been drawn.
        for reader in people[: len(SAES)]:
            asyncio.run(alone(doors[reader.name], [reader], Tally(), rounds=1))
        _say("The server is warm.")
        watch.note("before they come")
        asyncio.run(
            together(doors, people, known, tally, minutes=minutes, think=think, watch=watch)
        )
        _say("All have left, and the long texts were stopped.")
        time.sleep(rest)
        # Streamlit forgets sessions that ended two minutes ago when another one ends.
        asyncio.run(alone(doors[people[0].name], people[:1], Tally(), rounds=1))
        time.sleep(_AFTER_ONE_LEFT)
        watch.note("after they left")
    return apart, tally, watch


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=20, help="readers at a time")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long they stay")
    parser.add_argument("--think", type=float, default=60.0, help="mean seconds between two steps")
    parser.add_argument(
        "--rest", type=float, default=150.0, help="seconds after which memory is looked at again"
    )
    parser.add_argument("--folder", type=Path, help="kept, with what one reader alone saw")
    given = parser.parse_args()
    options = {name: value for name, value in vars(given).items() if name != "folder"}
    with tempfile.TemporaryDirectory(prefix="hosting-") as passing:
        apart, together_, watch = measure(given.folder or Path(passing), **options)
    print_tally(apart, together_, watch)
    sys.exit(1 if together_.wrong else 0)
