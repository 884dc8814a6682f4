"""Folders for packages that are made in great numbers."""

import itertools

import pytest


@pytest.fixture(scope="session")
def new_folder(tmp_path_factory):
    """() → a path where nothing lies yet."""
    root, numbers = tmp_path_factory.mktemp("bitexact"), itertools.count()
    return lambda: root / str(next(numbers))
