"""Parts of the page of patch scoping."""
