"""The tests: read them as documentation of the API and of the pipeline."""
