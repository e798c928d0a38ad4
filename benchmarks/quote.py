"""Run a benchmark and put what it printed into ``docs/benchmarks.md``, so that no figure there is typed by hand.

    python benchmarks/quote.py startup
    python benchmarks/quote.py compression --image scan.nii.gz --timed
    python benchmarks/quote.py readers@series --cases ct cine tree

The page holds a pair of marks for each section, ``<!-- startup -->`` and ``<!-- end startup -->``; what stands between them
is replaced by the command, the machine, the date and the output. A script with several sections is told which by ``@``.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"


def machine() -> str:
    """Processor, cores and memory, as the system names them."""
    name, memory = platform.processor() or platform.machine(), ""
    cpuinfo, meminfo = Path("/proc/cpuinfo"), Path("/proc/meminfo")
    if cpuinfo.exists() and (found := re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())):
        name = found[1]
    if meminfo.exists() and (found := re.search(r"MemTotal:\s*(\d+)", meminfo.read_text())):
        memory = f", {int(found[1]) / 2**20:.0f} GiB"
    return f"{name}, {os.cpu_count()} cores{memory}, Python {platform.python_version()}"


def main() -> None:
    section, arguments = sys.argv[1], sys.argv[2:]
    name = section.partition("@")[0]
    begin, end = f"<!-- {section} -->", f"<!-- end {section} -->"
    page = PAGE.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE} has no section for {section}; add the lines {begin} and {end} where it belongs.")
    load = os.getloadavg()[0]
    lines: list[str] = []
    with subprocess.Popen(
        [sys.executable, str(HERE / f"{name}.py"), *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        raise SystemExit(f"{name}.py failed with status {process.returncode}; the page is as it was.")
    out = "".join(lines).strip()
    if not re.search(r"^\|[ :-]*-", out, re.MULTILINE):
        out = f"```\n{out}\n```"
    # a path of this machine says nothing to a reader
    words = [Path(a).name if a.startswith("/") else a for a in arguments]
    said = f"`python benchmarks/{' '.join([name + '.py', *words])}` · {datetime.now(UTC):%Y-%m-%d} · {machine()} · load before {load:.1f}"
    page = PAGE.read_text(encoding="utf-8")  # another benchmark may have ended meanwhile
    page = page[: page.index(begin)] + f"{begin}\n{said}\n\n{out}\n{end}" + page[page.index(end) + len(end) :]
    temporary = PAGE.with_suffix(".tmp")
    temporary.write_text(page, encoding="utf-8")
    os.replace(temporary, PAGE)


if __name__ == "__main__":
    main()
