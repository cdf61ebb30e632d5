"""What pages show and keep in their address, worked out without Streamlit."""
