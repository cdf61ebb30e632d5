"""A notebook that makes every number of a dossier again."""

import json
from typing import Any

from core.dossier.cite import citation
from core.dossier.conclude import Conclusion
from core.dossier.request import PARTS
from core.dossier.result import Dossier
from core.view.markup import escape_markdown


def dossier_notebook(dossier: Dossier, conclusion: Conclusion) -> str:
    """A Jupyter notebook (format 4.5), to be run where the explorer's repository is.

    A text that was brought or pasted cannot be named in it: the reader says where it lies.
    """
    request = dossier.request
    wanted = {
        name: value for name, value in vars(request).items() if name not in ("corpus", "latent")
    }
    arguments = ",\n".join(f"    {name}={value!r}" for name, value in wanted.items())
    cells = [
        _text(
            f"# Latent {request.latent} of {escape_markdown(request.sae[0])} / "
            f"{escape_markdown(request.sae[1])}\n\n{escape_markdown(conclusion.sentence)}\n\n"
            f"{escape_markdown(citation(dossier))}"
        ),
        _code(
            "from core.catalog import Catalog\n"
            "from core.dossier.conclude import conclude\n"
            "from core.dossier.request import DossierRequest\n"
            "from core.dossier.run import run_dossier\n"
            "from core.engine import Engine\n"
            "from core.settings import Settings\n"
            "from core.store import Store\n\n"
            "settings = Settings.from_environment()\n"
            "store = Store(settings.cache_dir)\n"
            "engine = Engine(Catalog(settings), device=settings.device, store=store)"
        ),
        _code(_corpus(dossier)),
        _code(
            f"request = DossierRequest(\n{arguments},\n    latent={request.latent},\n"
            "    corpus=corpus,\n)\n"
            f"dossier = run_dossier(engine.lease, store, request{_parts(dossier)})"
        ),
        _code("conclusion = conclude(dossier)\nprint(conclusion.sentence)"),
        _code(
            "import pandas as pd\n\n"
            "pd.DataFrame([vars(line) for line in conclusion.lines])"
            "[['title', 'stand', 'why']]"
        ),
        _text("Every number, as it was when this notebook was written, beside it as made now:"),
        _code(_compare(dossier)),
    ]
    whole = {
        "cells": [{**cell, "id": f"cell{number}"} for number, cell in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(whole, ensure_ascii=False, indent=1)


def _parts(dossier: Dossier) -> str:
    """Which parts are made, where that is not all of them."""
    made = tuple(part for part in PARTS if part not in dossier.missing)
    return "" if made == PARTS or not made else f", parts={made!r}"


def _corpus(dossier: Dossier) -> str:
    corpus = dossier.request.corpus
    from core.corpus.docs import docs_sample

    if corpus.digest == docs_sample().digest:
        return "from core.corpus import docs_sample\n\ncorpus = docs_sample()"
    return (
        f"# The text was {corpus.name!r}; say where it lies.\n"
        "from pathlib import Path\n\nfrom core.corpus import text_file\n\n"
        "corpus = text_file(Path('my-text.txt'))\n"
        f"assert corpus.digest == {corpus.digest!r}, 'This is another text.'"
    )


def _compare(dossier: Dossier) -> str:
    rows = [
        (part, it.name, None if it.value != it.value else round(it.value, 6))
        for part, it in dossier.measures()
    ]
    listed = ",\n".join(f"    {row!r}" for row in rows)
    return (
        f"written = [\n{listed},\n]\n"
        "now = {(part, it.name): it.value for part, it in dossier.measures()}\n"
        "table = pd.DataFrame(\n"
        "    [(*row, now.get(row[:2])) for row in written],\n"
        "    columns=['section', 'number', 'written', 'now'],\n)\ntable"
    )


def _text(source: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def _code(source: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": source,
    }
