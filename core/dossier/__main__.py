"""Dossiers from a shell.

    python -m core.dossier --release docs-small-res --sae blocks.2.hook_resid_pre --latent 7 \\
        --html out.html --hypothesis '"F", " F"'
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.dossier.beside import RUNS
from core.dossier.request import PARTS, TOKENS
from core.dossier.view import KINDS
from core.shell import add_sae, add_text, corpus_for, one_entry, text_choice, this_machine

if TYPE_CHECKING:
    from core.dossier.shared import Shared


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a dossier and write it; 0 where it was made, 2 with a sentence where it cannot be."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


def _run(options: argparse.Namespace) -> int:
    from core.dossier.beside_runs import make_run
    from core.dossier.conclude import conclude
    from core.dossier.export_html import dossier_html
    from core.dossier.export_text import dossier_json, dossier_markdown
    from core.dossier.notebook import dossier_notebook
    from core.dossier.notes import load_notes
    from core.dossier.others import note_fingerprint, with_others
    from core.dossier.plan import request_for
    from core.dossier.run import run_dossier
    from core.dossier.shared import Shared
    from core.dossier.stored import open_dossier
    from core.dossier.trials import load_trials

    machine = this_machine()
    store, engine = machine.store, machine.engine
    entry = one_entry(machine, options.release, options.sae)
    corpus = corpus_for(machine, text_choice(machine, options.text, options.column))
    request = request_for(
        machine.catalog,
        machine.choices(entry),
        entry,
        options.latent,
        corpus,
        model=options.model,
        tokens=options.tokens,
    )
    own = engine.lease(request.model, [request.sae_name])
    note_fingerprint(store, request, own.sae_fingerprints[0])
    (request,) = with_others(store, [request], d_sae=entry.width)
    parts = tuple(options.parts) if options.parts else PARTS
    run_dossier(engine.lease, store, request, parts=parts, on_part=_told)
    for name in options.runs or ():
        _told(name)
        make_run(name, engine.lease, store, request)
    dossier = open_dossier(store, request)
    conclusion = conclude(dossier)
    fingerprint = dossier.versions["sae"]
    if options.hypothesis is not None:
        _try(Shared(engine.lease, store, request), options)
    trials = load_trials(store, fingerprint, options.latent)
    notes = load_notes(store, fingerprint, options.latent)
    written = {
        options.html: lambda: dossier_html(dossier, conclusion, notes, trials=trials),
        options.json: lambda: dossier_json(dossier, conclusion, notes, trials=trials),
        options.markdown: lambda: dossier_markdown(dossier, conclusion, notes, trials=trials),
        options.notebook: lambda: dossier_notebook(dossier, conclusion),
    }
    for path, make in written.items():
        if path is not None:
            path.write_text(make(), encoding="utf-8")
    sys.stdout.write(f"{conclusion.sentence}\n")
    for part, why in dossier.not_run.items():
        sys.stderr.write(f"not run: {part}: {why}\n")
    return 0


def _try(shared: "Shared", options: argparse.Namespace) -> None:
    """Try a hypothesis, keep the trial, and say how it went."""
    from core.dossier.hypothesis import Hypothesis
    from core.dossier.trial import VERDICTS, try_hypothesis
    from core.dossier.trials import save_trial

    hypothesis = Hypothesis(options.kind, options.hypothesis)
    trial = try_hypothesis(shared, options.latent, hypothesis)
    save_trial(shared.store, shared.lease.sae_fingerprints[0], options.latent, trial)
    shares = ", ".join(
        f"{it.name} {it.value:.0%} ({it.low:.0%} to {it.high:.0%}, random latents "
        f"{it.chance('latents'):.0%})"
        for it in trial.measures[:2]
    )
    sys.stdout.write(f"“{trial.hypothesis}”: {shares}. {VERDICTS[trial.verdict]}\n")


def _told(part: str) -> None:
    sys.stderr.write(f"{part}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m core.dossier", description="Every line of evidence on one latent."
    )
    add_sae(parser, one=True)
    add_text(parser, tokens=TOKENS)
    parser.add_argument("--latent", required=True, type=int, help="the latent, from 0")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="only these sections")
    parser.add_argument("--hypothesis", help="where it fires, to be tried on held-out text")
    parser.add_argument(
        "--kind", choices=tuple(KINDS), default="tokens", help="what that is (%(default)s)"
    )
    parser.add_argument("--runs", nargs="+", choices=RUNS, help="longer runs on the whole SAE, too")
    for kind in ("html", "json", "markdown", "notebook"):
        parser.add_argument(f"--{kind}", type=Path, help=f"write it there as {kind}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
