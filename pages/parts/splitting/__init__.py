"""Parts of the feature-splitting page."""
