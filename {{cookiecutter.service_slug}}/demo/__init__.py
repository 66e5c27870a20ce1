"""Faces of the service for people. They talk to it over HTTP and import none of it."""
