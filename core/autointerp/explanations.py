"""What the runs of autointerp on an SAE have said of each of its latents."""

import math
from collections.abc import Mapping
from typing import Any

from core.autointerp.record import listed_runs, records_of
from core.descriptions.said import BALANCED, Said
from core.store import Store

MOST_RUNS = 20
"""The latest runs that are looked through."""


def runs_key(store: Store, fingerprint: str) -> str:
    """Changes when a run on the SAE is added."""
    runs = listed_runs(store, fingerprint)[:MOST_RUNS]
    return "autointerp-said:" + fingerprint + ":" + ",".join(run["id"] for run in runs)


def explanations_of(store: Store, fingerprint: str) -> dict[int, list[Said]]:
    """Explanations by latent, of the latest runs on the SAE with these weights."""
    found: dict[int, list[Said]] = {}
    for record in records_of(store, fingerprint, most=MOST_RUNS):
        author = record["title"].partition(", ")[2] or "explained by autointerp"
        for latent, result in record["results"].items():
            text = " ".join((result.get("explanation") or "").split())
            if text and result.get("status") != "no pattern":
                found.setdefault(int(latent), []).append(_said(text, author, result))
    return found


def _said(text: str, author: str, result: Mapping[str, Any]) -> Said:
    numbers = result.get("numbers") or {}

    def number(name: str) -> float:
        value = numbers.get(name)
        return math.nan if value is None else float(value)

    edited = " (edited)" if result.get("edited") else ""
    return Said(
        text=text,
        author=f"Autointerp{edited}: {author}",
        score=number("balanced_accuracy"),
        measure=BALANCED,
        low=number("balanced_low"),
        high=number("balanced_high"),
        n=numbers.get("n"),
    )
