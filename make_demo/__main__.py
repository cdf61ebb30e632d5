"""Rebuild the demo bundle, or go on where an interrupted run stopped: `python -m make_demo`."""

import argparse
import logging
import signal
import sys
from pathlib import Path

import torch

from core.settings import REPOSITORY
from make_demo.pipeline import Pipeline
from make_demo.recipe import Recipe, short_recipe, tiny_recipe


def main() -> None:
    """Parse the command line and run all stages."""
    parser = argparse.ArgumentParser(prog="make_demo", description=__doc__)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, …")
    parser.add_argument("--work-dir", type=Path, default=REPOSITORY / "build" / "demo")
    parser.add_argument("--demo-dir", type=Path, default=REPOSITORY / "demo")
    parser.add_argument("--wordnet", type=Path, help="WordNet glosses (.tsv, .xml or .xml.gz)")
    parser.add_argument(
        "--effort",
        choices=("full", "short", "tiny"),
        help="full: as shipped, minutes on a GPU; short: hours on two cores; tiny: a minute's run "
        "through every stage (default: full on a GPU, short on the CPU)",
    )
    parser.add_argument("--workers", type=int, default=1, help="SAEs trained side by side")
    parser.add_argument("--until", help="stop after this stage")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for library in ("httpx", "transformers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that stages note their time
    device = torch.device(arguments.device)
    effort = arguments.effort or ("short" if device.type == "cpu" else "full")
    Pipeline(
        {"full": Recipe, "short": short_recipe, "tiny": tiny_recipe}[effort](),
        work_dir=arguments.work_dir,
        demo_dir=arguments.demo_dir,
        device=device,
        wordnet=arguments.wordnet,
        workers=arguments.workers,
    ).run(until=arguments.until)


if __name__ == "__main__":
    main()
