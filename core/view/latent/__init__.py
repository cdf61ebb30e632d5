"""What the page of one latent shows, worked out without Streamlit."""
