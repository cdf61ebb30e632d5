"""Parts of the page of latent gradients."""
