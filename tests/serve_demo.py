"""The app on a demo bundle elsewhere than in demo/, for the tests that drive a browser.

python -m tests.serve_demo FOLDER [streamlit options]

Imports nothing that the app does not import, so that it starts as the app does.
"""

import sys
from dataclasses import replace
from pathlib import Path

from streamlit.web import cli

from core.settings import Settings

APP = Path(__file__).resolve().parent.parent / "app.py"


def main() -> None:
    """`streamlit run app.py` on the bundle in the folder given; ends with the server."""
    demo, options = Path(sys.argv[1]), sys.argv[2:]
    read = Settings.from_environment

    def from_environment() -> Settings:
        return replace(read(), demo_dir=demo)

    # The bundle ships with the explorer, so there is no variable for its folder.
    Settings.from_environment = from_environment  # type: ignore[method-assign, assignment]
    sys.argv = ["streamlit", "run", str(APP), *options]
    cli.main()


if __name__ == "__main__":
    main()
