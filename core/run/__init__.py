"""Long work from a shell, with the requests and the store of the pages: `python -m core.run`."""
