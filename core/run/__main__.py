"""`python -m core.run index|autointerp|map|quality|dossier|list`; see `--help`."""

import sys

from core.run.command import main

if __name__ == "__main__":
    sys.exit(main())
