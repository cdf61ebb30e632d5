"""The hosted app on a demo bundle elsewhere than in demo/.

python -m tests.serve_hosted FOLDER [streamlit options]
"""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

from core.settings import Settings

HOSTED = Path(__file__).resolve().parent.parent / "hosted.py"


def main() -> None:
    """`python hosted.py` on the bundle in the folder given; ends with the server."""
    demo, options = Path(sys.argv[1]), sys.argv[2:]
    read = Settings.from_environment
    Settings.from_environment = lambda: replace(read(), demo_dir=demo)  # type: ignore[assignment, method-assign]
    sys.argv = [str(HOSTED), *options]
    runpy.run_path(str(HOSTED), run_name="__main__")


if __name__ == "__main__":
    main()
