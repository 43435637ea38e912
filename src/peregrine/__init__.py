"""Peregrine: from labelled images to the fastest classifier that is still provably right."""

__version__ = "0.1.0"
