"""What we do with a network: methods, runs, their store, their queue. No Streamlit here."""
