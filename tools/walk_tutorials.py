"""Walk tutorials as a stranger does: every command, script and step in napari of a page, in order, as written, in an empty folder.

    python tools/walk_tutorials.py                      # all of docs/tutorials; the package is the one that this Python imports
    python tools/walk_tutorials.py docs/tutorials/annotate.md --record docs/benchmarks/tutorials.json

Blocks of `sh` and `python` are run, each by itself; a block of `yaml` with a title is written into the file of that name. What a page
does in napari is done there by tools/walk_viewer.py, under the heading that `IN_NAPARI` names. Lines that set an environment up are left
out: tools/stranger.sh walks these. What each block says is printed, and the seconds it took; the first that fails ends the page.
`--record` keeps the seconds of each page, which the pages quote.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(sh|python|yaml)(?: title=\"([^\"]+)\")?\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: page → the heading under which it is worked in napari
IN_NAPARI = {
    "first-study": "## 2. Open the study",
    "annotate": "## In napari",
    "train-from-a-folder": "## 5. In napari",
    "hundred-patients": "## 3. Look at it",
}
_WINDOW = re.compile(r"^(napari --plugin|\. \.venv/|python -m pip )")


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, title, text) of each block that is to be copied; ("napari", "", heading) where the page is worked in napari.

    Raises
    ------
    ValueError
        If the heading of `IN_NAPARI` does not stand on the page.
    """
    text = page.read_text(encoding="utf-8")
    heading = IN_NAPARI.get(page.stem)
    if heading is None:
        return _BLOCK.findall(text)
    before, found, after = text.partition(f"\n{heading}\n")
    if not found:
        raise ValueError(f"{page} has no heading {heading!r}: bring IN_NAPARI up to date")
    return [*_BLOCK.findall(before), ("napari", "", heading), *_BLOCK.findall(after)]


def command(language: str, text: str, page: Path, folder: Path) -> list[str]:
    """What runs one block."""
    if language == "napari":
        walk_viewer = [sys.executable, str(ROOT / "tools" / "walk_viewer.py"), str(page.resolve()), str(folder)]
        screen = os.environ.get("DISPLAY") or not shutil.which("xvfb-run")
        return walk_viewer if screen else ["xvfb-run", "-a", "-s", "-screen 0 1400x1000x24", *walk_viewer]
    if language == "python":
        return [sys.executable, "-c", text]
    kept = [line for line in text.splitlines() if not _WINDOW.match(line)]
    # what the target runs
    kept = ["napari-medseq demo --out runs/demo" if line == "make demo" else line for line in kept]
    return ["sh", "-ec", "\n".join(kept)]


def walk(page: Path, folder: Path) -> float:
    """Run a page in a folder; the seconds it took."""
    tools = folder / ".bin"
    tools.mkdir()
    for name, arguments in (("napari-medseq", "-m napari_medseq "), ("python", "")):
        (tools / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (tools / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tools}:{os.environ['PATH']}",
        "NAPARI_MEDSEQ_MODELS": str(folder / ".models"),
        "NAPARI_MEDSEQ_STATE": str(folder / ".state"),
    }
    begun = time.monotonic()
    for language, name, text in blocks(page):
        if language == "yaml":
            (folder / name).write_text(text, encoding="utf-8")
            continue
        print(f"--- {page.name}: {text.strip().splitlines()[0]} …", flush=True)
        start = time.monotonic()
        done = subprocess.run(
            command(language, text, page, folder),
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        print(done.stdout, end="")
        print("\n".join(line for line in done.stderr.split("\r")[-1].splitlines()[-6:]), file=sys.stderr)
        print(f"--- {time.monotonic() - start:.1f} s", flush=True)
        if done.returncode:
            sys.exit(f"{page.name}: this failed with exit status {done.returncode}:\n{text}\n{done.stderr[-2000:]}")
    return time.monotonic() - begun


def main() -> None:
    """Walk the pages that are named, or all."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("pages", nargs="*", type=Path, default=sorted((ROOT / "docs" / "tutorials").glob("*.md")))
    ask.add_argument("--record", type=Path, help="JSON file: the seconds of each page")
    given = ask.parse_args()
    seconds: dict[str, object] = {}
    if given.record and given.record.is_file():
        seconds = json.loads(given.record.read_text(encoding="utf-8"))
    for page in given.pages:
        with tempfile.TemporaryDirectory() as folder:
            took = walk(page, Path(folder))
        seconds[page.stem] = {"seconds": round(took), "cores": os.cpu_count(), "load": round(os.getloadavg()[1], 1)}
        print(f"=== {page.name}: walked in {took:.0f} s", flush=True)
        if given.record:
            given.record.write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
