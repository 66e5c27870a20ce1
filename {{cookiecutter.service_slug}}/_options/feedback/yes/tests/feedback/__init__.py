"""The database of feedback and its endpoint."""
