"""One latent on its page: what it responds to, what it does, and which others resemble it."""
