"""This service: its contract, endpoints, settings and examples.

These files are yours to edit. The template updates `serving/`, the engine.
"""
