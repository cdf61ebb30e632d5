"""What the page of patch scoping shows, worked out without Streamlit."""
