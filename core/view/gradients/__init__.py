"""What the page of latent gradients shows, worked out without Streamlit."""
