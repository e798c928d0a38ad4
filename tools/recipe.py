"""Write the requirements of the conda recipe's draft from pyproject.toml: ``python tools/recipe.py`` rewrites packaging/recipe.yaml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "packaging" / "recipe.yaml"
#: what conda-forge calls otherwise
NAMES = {
    "SimpleITK": "simpleitk",
    "torch": "pytorch",
    "dask[array]": "dask-core",
    "matplotlib": "matplotlib-base",
    "lazy-loader": "lazy-loader",
}
_PARTS = re.compile(r"^([A-Za-z0-9._-]+(?:\[\w+\])?)\s*(.*)$")


def requirement(text: str) -> str:
    """One requirement as conda writes it."""
    match = _PARTS.match(text)
    name, bounds = (match[1], match[2]) if match else (text, "")
    return f"{NAMES.get(name, name.lower())} {bounds}".strip()


def main() -> None:
    """Everything after the build section is made anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    about, build = project["project"], project["build-system"]["requires"]
    python = f"python {about['requires-python']}"
    lines = ["requirements:", "  host:", f"    - {python}", "    - pip", *(f"    - {requirement(r)}" for r in build)]
    lines += ["  run:", f"    - {python}", *(f"    - {requirement(r)}" for r in about["dependencies"])]
    lines += ["tests:", "  - python:", "      imports: [napari_medseq]", "      pip_check: true", "  - script:"]
    lines += [
        "      - napari-medseq --help",
        "about:",
        f"  summary: {about['description']}",
        f"  license: {about['license']}",
    ]
    lines += ["  license_file: LICENSE", "extra:", "  recipe-maintainers: []  # named when it is sent in"]
    head = RECIPE.read_text(encoding="utf-8").split("requirements:")[0]
    RECIPE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
