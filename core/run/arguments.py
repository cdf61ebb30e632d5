"""The words of `python -m core.run`. Nothing here imports torch: --help is there at once."""

import argparse

from core.autointerp.view import EXPLAINERS, JUDGES, SCORES, SWITCHES
from core.shell import add_sae, add_text, positive
from core.view.corpora import SAMPLE_TOKENS

_EPILOG = """\
Everything that is computed goes into the explorer's store (SAE_EXPLORER_CACHE), under the keys that
the pages use: open the address that is printed at the end and it is there. Before anything begins,
the command says what it will cost in time, memory, disk and money, measured on a first part of the
work, and asks. Ctrl-C stops at the next step; the same command goes on where it stopped, also after
it was killed.

exit codes:
  0    done (or, with --estimate, estimated)
  1    failed on the way; a sentence says why
  2    bad input: an unknown SAE, no such file, too little room
  130  cancelled by Ctrl-C, SIGTERM or the answer no

examples, on the demo:
  python -m core.run list
  python -m core.run index --release docs-small-res --tokens 2M
  python -m core.run quality --release docs-small-res --estimate
  python -m core.run map --release docs-small-res --sae blocks.2.hook_resid_pre --clusters
  python -m core.run autointerp --release docs-small-res --sae blocks.2.hook_resid_pre \\
      --latents "50 random" --yes
  python -m core.run dossier --release docs-small-res --sae blocks.2.hook_resid_pre \\
      --latents "3, 10-12"
"""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    found = argparse.ArgumentParser(
        prog="python -m core.run",
        description="Long work without a browser: indexes, explanations, maps, quality, dossiers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = found.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _list(commands)
    _index(commands)
    _autointerp(commands)
    _map(commands)
    _quality(commands)
    _dossier(commands)
    return found


def _command(
    commands: "argparse._SubParsersAction", name: str, help: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    group = made.add_argument_group("before it begins")
    group.add_argument("--yes", action="store_true", help="begin without asking")
    group.add_argument(
        "--estimate", action="store_true", help="only say what it will cost, and end"
    )
    group.add_argument("--verbose", action="store_true", help="show the libraries' messages")
    return made


def _list(commands: "argparse._SubParsersAction") -> None:
    made = commands.add_parser("list", help="List the releases and SAEs of this machine.")
    made.add_argument("--hub", action="store_true", help="the published ones, too (thousands)")


def _index(commands: "argparse._SubParsersAction") -> None:
    made = _command(
        commands, "index", "Read a text once and index all latents of the SAEs: the dashboards."
    )
    add_sae(made, one=False)
    add_text(made, tokens=SAMPLE_TOKENS)
    made.add_argument(
        "--firings",
        action="store_true",
        help="keep every firing, too: Parquet files, for searches over all SAEs at once (tab Find)",
    )
    made.add_argument("--bos", action="store_true", help="let the beginning-of-text token count")
    _add_workers(made)


def _add_workers(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group(
        "several workers",
        "With requirements-ray.txt installed; the results are those of one process. What the "
        "machines of a cluster must share is said in docs/cluster.md.",
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="start workers on this machine, or join the cluster at ADDRESS (auto, HOST:6379)",
    )
    group.add_argument(
        "--workers", type=positive, help="how many (default: as many as there is room for)"
    )
    group.add_argument(
        "--threads",
        type=positive,
        help="threads of torch of each, and of this process (default: as many as it has)",
    )


def _quality(commands: "argparse._SubParsersAction") -> None:
    made = _command(commands, "quality", "Measure how good SAEs are, with intervals and nulls.")
    add_sae(made, one=False)
    add_text(made, tokens=_quality_tokens())
    _add_workers(made)


def _quality_tokens() -> int:
    from core.sae_quality.view import DEFAULT_TOKENS

    return DEFAULT_TOKENS


def _map(commands: "argparse._SubParsersAction") -> None:
    made = _command(commands, "map", "Lay out the decoder directions of SAEs of one site.")
    what = "SAEs on the map; of one alone, its family of widths is taken, as the page does"
    add_sae(made, one=False, what=what)
    group = made.add_argument_group("layout")
    group.add_argument("--neighbors", type=int, default=15, help="neighbours (%(default)s)")
    group.add_argument("--min-dist", type=float, default=0.05, help="least distance (%(default)s)")
    group.add_argument("--clusters", action="store_true", help="look for clusters, too")
    group.add_argument(
        "--min-cluster-size", type=int, default=3, help="latents of the smallest (%(default)s)"
    )
    group.add_argument("--seed", type=int, default=0, help="the same seed gives the same map")
    group.add_argument("--hide-dead", action="store_true", help="leave out what never fires")


def _autointerp(commands: "argparse._SubParsersAction") -> None:
    made = _command(commands, "autointerp", "Explain latents and score the explanations.")
    add_sae(made, one=True)
    add_text(made, tokens=SAMPLE_TOKENS)
    group = made.add_argument_group("what is explained, and how")
    group.add_argument(
        "--latents", default="20 random", help='as "3, 10-14" or "50 random" (%(default)s)'
    )
    group.add_argument(
        "--explainer",
        choices=EXPLAINERS,
        default="words",
        help="words of the examples, a chat model, or the model itself by patch scoping",
    )
    group.add_argument("--judge", choices=JUDGES, default="words", help="who scores (%(default)s)")
    group.add_argument(
        "--scores", nargs="*", choices=SCORES, default=[], help="scores beyond detection"
    )
    group.add_argument(
        "--tell", nargs="*", choices=SWITCHES, default=[], help="what a chat model is told besides"
    )
    group.add_argument("--no-controls", action="store_true", help="no neurons, random directions …")
    group.add_argument("--seed", type=int, default=0, help="of what is drawn at random")
    chat = made.add_argument_group(
        "chat service",
        "Its key is read from OPENAI_API_KEY and its address from OPENAI_BASE_URL; a key is no "
        "option, because others can read what is typed here.",
    )
    chat.add_argument("--chat-model", default="", help="the service's name of the model")
    chat.add_argument("--url", default="", help="address, up to /v1, of a service without a key")
    chat.add_argument("--prompt-price", type=float, default=0.0, help="$ a million tokens sent")
    chat.add_argument("--completion-price", type=float, default=0.0, help="… and received")
    chat.add_argument(
        "--budget",
        type=float,
        default=1.0,
        help="most dollars, where prices are given (%(default)s)",
    )
    chat.add_argument(
        "--questions", type=positive, default=2000, help="most questions (%(default)s)"
    )


def _dossier(commands: "argparse._SubParsersAction") -> None:
    made = _command(
        commands,
        "dossier",
        "Every line of evidence on some latents; one alone as a file: "
        "python -m core.dossier --help.",
    )
    add_sae(made, one=True)
    add_text(made, tokens=SAMPLE_TOKENS)
    made.add_argument("--latents", required=True, help='at most 200, as "3, 10-12" or "20 random"')
