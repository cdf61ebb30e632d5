"""Sections with planted numbers: those of an honest latent, and functions that change some."""

from dataclasses import replace

import numpy as np
import pandas as pd

from core.corpus.documents import pasted_text
from core.descriptions.patterns import Pattern
from core.dossier.compare import Comparison, Pair
from core.dossier.hides import Hides
from core.dossier.measure import Measure, share
from core.dossier.reads import Reads
from core.dossier.request import DossierRequest
from core.dossier.result import Dossier
from core.dossier.says import Said, Says
from core.dossier.spoken import Spoken
from core.dossier.trial import Trial
from core.dossier.works import Works
from core.dossier.writes import Writes
from core.latent.examples import ExampleRow
from core.logit_statistics import LogitEffects, LogitMoments
from core.patch_scoping.null_distribution import NullComparison
from core.patch_scoping.tables import BestText

REQUEST = DossierRequest("m", ("r", "s", "v"), 3, pasted_text("some text"))
LOW = tuple(np.linspace(0.0, 0.3, 19))
"""What controls reach."""


def acc(name: str, value: float, half: float = 0.1, n: int = 30, **controls) -> Measure:
    high = min(1.0, value + half)
    return Measure(name, name, value, value - half, high, n, "examples", is_share=True, **controls)


def said(source: str = "offline", text: str = 'words such as "cat"', **changed) -> Said:
    others = tuple(np.linspace(0.0, 0.2, 40))
    usual = Said(
        source=source,
        text=text,
        detection=acc("detection", 0.9, directions=tuple(0.5 + it / 2 for it in LOW)),
        fuzzing=acc("fuzzing", 0.9),
        neighbours=acc("neighbours", 0.85),
        output=Measure("output", "o", 0.6, n=20, of="tokens", latents=others),
        best_other=9,
        best_other_score=0.1,
        precision=share("precision", "p", 45, 50, "words named"),
        recall=share("recall", "r", 40, 50, "words"),
        names_something=True,
        why="",
    )
    return replace(usual, **changed)


def spoken(**changed) -> Spoken:
    null = NullComparison(0.02, "stands out", 1.0, 2.0, -1.0, -2.0, 0.5, 0.2, 0.1, 0.0)
    usual = Spoken(
        "m-it",
        BestText("a small animal", 1, 1.0, 1.0, -0.5),
        null,
        "",
        True,
        word="cat",
        definition="a small animal",
        reading=1.0,
        others={f"w{n}": 0.1 for n in range(40)},
        nearest=("w1",),
    )
    return replace(usual, **changed)


def reads(
    count: int = 400, purity: int = 19, weak: int = 15, kind: str = "word", **changed
) -> Reads:
    usual = Reads(
        measures=(
            share("rate", "rate", count, 10_000, "tokens"),
            share("purity", "purity", purity, 20, "examples", directions=LOW, latents=LOW),
            share("weak_same", "weak", weak, 20, "examples", latents=tuple(0.5 + it for it in LOW)),
            share("early", "early", 5, 100, "firings", directions=LOW),
            share("repeats", "repeats", 10, 100, "firings", directions=LOW),
        ),
        text="a text",
        n_tokens=10_000,
        count=count,
        peak=4.0,
        mean=1.0,
        histogram=np.array([3, 1]),
        edges=np.array([1.0, 2.0, 4.0]),
        top=(),
        bands=(),
        clusters=(),
        tokens=pd.DataFrame({"id": [1], "token": ["cat"], "examples": [19]}),
        weak_tokens=pd.DataFrame({"id": [1], "token": ["cat"], "examples": [3]}),
        pattern=Pattern(kind, "cat", 0.9, 20, ("cat",)),
        explanation='fires on "cat"',
        positions=np.full(32, 3),
        positions_all=np.full(32, 100),
    )
    return replace(usual, **changed)


def writes(
    on_peak: int = 10,
    on_next: int = 0,
    kurtosis: float = 3.0,
    score: float = 0.5,
    removed: float = 0.4,
) -> Writes:
    flat = np.zeros(1)
    moments = LogitMoments(flat, flat + 1, flat, flat)
    effects = LogitEffects((), (), np.ones(2, int), np.arange(3.0), moments)
    return Writes(
        measures=(
            share("on_peak", "peak", on_peak, 20, "examples", latents=LOW, directions=LOW),
            share("on_next", "next", on_next, 20, "examples", latents=LOW, directions=LOW),
            Measure("kurtosis", "k", kurtosis, n=100, of="tokens", directions=LOW),
            Measure("output_score", "s", score, n=19, of="directions", directions=LOW),
            Measure("gain", "g", 0.2, 0.1, 0.3, 12, "texts", directions=(0.0, 0.01)),
            Measure("ablation", "a", 0.5, removed, 0.6, 8, "examples", directions=(0.1, 0.2)),
        ),
        effects=effects,
        sets=pd.DataFrame(columns=["set"]),
        next_tokens=pd.DataFrame(columns=["id", "token", "examples"]),
        ablation=pd.DataFrame(columns=["place", "kl", "random"]),
        steered=pd.DataFrame(columns=["kind", "kl", "gain", "gain_low", "gain_high", "text"]),
        steer_problem="",
        notes=(),
    )


def says(*some: Said, own: Spoken | None = None, agreement: float = 0.5) -> Says:
    table = pd.DataFrame(columns=["one", "other", "overlap"])
    chance = tuple(np.linspace(0, 0.1, 40))
    measure = Measure("agreement", "a", agreement, n=1, of="pairs", latents=chance)
    return Says((measure,), some or (said(), said("model", "a small animal")), own, {}, table)


def hides(fires: int = 80, n: int = 100, fit: float = 0.8) -> Hides:
    empty = pd.DataFrame(columns=["token"])
    return Hides(
        measures=(
            Measure("fit", "fit", fit, n=n, of="positions", latents=(0.1,)),
            share("covers", "covers", fires, n, "positions"),
            Measure("absorbed", "absorbed", 0.3, 0.2, 0.4, n, "positions", is_share=True),
        ),
        concept="animals",
        runner_up="",
        fit=fit,
        chance_fit=0.1,
        probe_f1=0.9,
        tokens=empty,
        absorbers=empty,
    )


def works(repeated: float = 1.0, check: float = 0.9) -> Works:
    empty = pd.DataFrame(columns=["latent", "share", "prompts"])
    tokens = pd.DataFrame({"token": ["cat"], "back": [0], "share": [0.9], "prompts": [5]})
    return Works(
        measures=(
            Measure("repeated", "r", repeated, n=5, of="examples", is_share=True),
            Measure("rest", "rest", 0.2, 0.1, 0.3, 5, "examples", is_share=True),
            Measure("check_into", "c", check, n=40, of="interventions"),
            Measure("check_out", "c", check, n=40, of="interventions"),
        ),
        tokens=tokens,
        feeds=empty,
        fed=empty,
        heads=empty,
        next_tokens=tokens,
        prompts=5,
        before="b",
        after="a",
        into="",
        out="",
    )


def dossier(**changed) -> Dossier:
    parts = {
        "reads": reads(),
        "writes": writes(),
        "says": says(own=spoken()),
        "hides": hides(),
        "works": works(),
        **changed,
    }
    return Dossier(REQUEST, **parts)


def row(*tokens: str, peak: int = 0) -> ExampleRow:
    return ExampleRow(tokens or ("a", " cat"), (2.0,) * max(2, len(tokens)), peak=peak, value="2")


def trial(**changed) -> Trial:
    usual = Trial(
        when="2026-01-02T03:04:05+00:00",
        who="Ann",
        kind="explanation",
        hypothesis='the word "cat"',
        judge="words, offline",
        reads_as="the words “cat”",
        text="a text",
        unit="words",
        n=1000,
        verdict="fits",
        measures=(
            share("precision", "p", 45, 50, "words named", latents=LOW),
            share("recall", "r", 40, 50, "words", latents=LOW),
        ),
        silent=(row(),),
        missed=(row(),),
        peak=4.0,
    )
    return replace(usual, **changed)


def comparison() -> Comparison:
    pair = Pair(row(), row(), 0.9, 0.1)
    measures = (share("second_too", "s", 3, 20, "texts", latents=LOW),)
    return Comparison(measures, (pair,), (), (pair,), 20, in_place=True, peaks=(4.0, 2.0))
