"""Measurements: they print figures and hold no bounds; the tests hold the bounds."""
