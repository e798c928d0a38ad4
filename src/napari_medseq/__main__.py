"""``python -m napari_medseq`` is the command ``napari-medseq``."""

from __future__ import annotations

import sys

from napari_medseq.cli import main

if __name__ == "__main__":
    sys.exit(main())
