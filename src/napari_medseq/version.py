"""The version of the package, where every room may know it: that of the installed distribution, which comes from git tags."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("napari-medseq")
except PackageNotFoundError:  # a checkout on the path that was never installed
    __version__ = "0+unknown"
