"""Parts of the latent page."""
