"""MobileQuant: language models on phones, in integers only."""

__version__ = "0.1.0"
