"""Where models come from."""

from mobilequant.models.sources.resolver import resolve, resolve_folder

__all__ = ["resolve", "resolve_folder"]
