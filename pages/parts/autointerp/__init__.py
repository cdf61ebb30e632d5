"""Parts of the page of autointerp."""
