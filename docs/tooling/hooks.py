"""What the site makes while it is built: the picture of the rooms, copies of the project's own pages, addresses from pyproject.toml.

An example of the gallery that does not end in a picture ends the build.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parent))
import api  # noqa: E402
import rooms  # noqa: E402

#: pages that lie outside of `docs` → their place in the site
COPIED = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "SECURITY.md": "project/security.md",
    "src/napari_medseq/bundles/brain-tumor/docs/README.md": "models/brain-tumor.md",
    "src/napari_medseq/bundles/brain-tumor-slices/docs/README.md": "models/brain-tumor-slices.md",
    "src/napari_medseq/bundles/hippocampus/docs/README.md": "models/hippocampus.md",
    "src/napari_medseq/bundles/left-ventricle/docs/README.md": "models/left-ventricle.md",
    "src/napari_medseq/bundles/lung-nodule/docs/README.md": "models/lung-nodule.md",
    "src/napari_medseq/bundles/propagate/docs/README.md": "models/propagate.md",
    "src/napari_medseq/bundles/sarcoma/docs/README.md": "models/sarcoma.md",
}
#: a list or table right below a line of text, which GitHub takes for one and Python-Markdown for more text
_GLUED = re.compile(r"^(?![ ]*(?:[-*|#>]|\d+\. |```))(.*\S.*)\n(?=(?:[-*] |1\. |\|))", re.MULTILINE)
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()(?!https?:|#|mailto:)([^)#\s]+)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Take the addresses from the one place where they stand; those that do not exist yet stay empty."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    urls = project.get("urls", {})
    config.site_url = urls.get("Documentation", "")
    config.repo_url = urls.get("Repository", "")
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is generated: nothing is written into the source folder."""
    files.append(File.generated(config, "generated/rooms.svg", content=rooms.draw()))
    for target, text in api.pages().items():
        files.append(File.generated(config, target, content=text))
    for source, target in COPIED.items():
        text = _moved((ROOT / source).read_text(encoding="utf-8"), Path(source).parent, Path(target).parent)
        files.append(File.generated(config, target, content=text))
    return files


def _moved(text: str, source: Path, target: Path) -> str:
    """Links into `docs` as they are from the page's place in the site; links to anything else in the checkout become plain text."""

    def link(match: re.Match[str]) -> str:
        path = (ROOT / source / match[2]).resolve()
        known = {(ROOT / s).resolve(): t for s, t in COPIED.items()}
        if path in known:
            return match[1] + "../" * len(target.parts) + known[path]
        if path.is_relative_to(ROOT / "docs"):
            return match[1] + "../" * len(target.parts) + path.relative_to(ROOT / "docs").as_posix()
        return f"{match[1]}#"

    return _LINK.sub(link, text)


def walked(page: str) -> str:
    """How long a tutorial took when it was walked through by script; empty where that was not recorded.

    Parameters
    ----------
    page : str
        Its path in `docs`.
    """
    measured = ROOT / "docs" / "benchmarks"
    lines = []
    if page == "tutorials/first-study.md" and (measured / "stranger.json").is_file():
        found = json.loads((measured / "stranger.json").read_text(encoding="utf-8"))
        lines.append(
            f"From `pip install` in an empty environment to the plot in the viewer it took {found['seconds']['pip install to plot']:.0f} s "
            f"(`tools/stranger.sh`; {found['machine']['cores']} cores, load {found['machine']['load']}; downloads depend on your network)."
        )
    if page.startswith("tutorials/") and (measured / "tutorials.json").is_file():
        found = json.loads((measured / "tutorials.json").read_text(encoding="utf-8")).get(Path(page).stem)
        if found:
            lines.append(
                f"Every command, script and step in napari on this page was done as it is written here, in {found['seconds']} s together "
                f"(`tools/walk_tutorials.py`; {found['cores']} cores, load {found['load']})."
            )
    return "\n\n*" + " ".join(lines) + "*\n" if lines else ""


def ends_in_a_picture(markdown: str) -> bool:
    """Whether a page of the gallery shows a picture below its last piece of code."""
    return "](./images/" in markdown.rpartition("```{.python }")[2]


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Set lists and tables apart from the text above them; below a tutorial stands how long it took."""
    if page.file.src_uri.startswith("gallery/example_") and not ends_in_a_picture(markdown):
        raise PluginError(f"{page.file.src_uri}: the example does not end in a picture")
    parts = _FENCE.split(markdown + walked(page.file.src_uri))
    return "".join(part if part.startswith("```") else _GLUED.sub(r"\1\n\n", part) for part in parts)
