"""A home that cannot be written to, no home, no network, names in other alphabets: what works all the same, and what is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.io.dicoms import series

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts and namespaces of Linux")
#: `exec` what follows where the home cannot be written to (mounted so) and there is no network
BARE = 'mount --bind "$HOME" "$HOME" && mount -o remount,ro,bind "$HOME" && ! touch "$HOME/x" 2>/dev/null && exec "$@"'


def environment(home: Path | None, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "NAPARI_", "HOME", "LC_", "PYTHONUTF8"))}
    return {**kept, **({"HOME": str(home)} if home else {}), "DISPLAY": ":0", **more}


def command(*arguments: str, env: dict[str, str], before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-m", "napari_medseq", *arguments],
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def bare() -> tuple[str, ...]:
    """What to put before a command so that it has neither a home to write to nor a network."""
    tool = shutil.which("unshare")
    prefix = (tool or "", "--map-root-user", "--mount", "--net", "sh", "-c", BARE, "sh")
    if tool is None or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets no test mount a folder read-only")
    return prefix


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """DICOM files in a folder whose name has a space and other alphabets."""
    folder = tmp_path / "Снимки 画像 Ω"
    series(folder, [(0, 0, 3.0 * k) for k in range(3)])
    return folder


def test_a_home_that_cannot_be_written_to_and_no_network_are_named(bare: tuple[str, ...], tmp_path: Path) -> None:
    home = tmp_path / "Ärztin Лена"
    home.mkdir()
    done = command("doctor", "--json", env=environment(home), before=bare)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["troubles"]
    remedies = ("NAPARI_MEDSEQ_MODELS", "NAPARI_MEDSEQ_STATE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    for variable in (*remedies, "NAPARI_MEDSEQ_PSEUDONYMS"):
        assert sum(f"set {variable} to" in sentence for sentence in said) == 1, variable
    assert sum("There is no network" in sentence for sentence in said) == 1
    # and the remedies are ones
    place = tmp_path / "elsewhere"
    place.mkdir()
    cured = {variable: str(place) for variable in remedies}
    done = command(
        "doctor",
        "--json",
        env=environment(home, NAPARI_MEDSEQ_PSEUDONYMS=str(place / "key"), **cured),
        before=bare,
    )
    (left,) = json.loads(done.stdout)["troubles"]
    assert "There is no network" in left


def test_files_are_read_where_neither_a_home_nor_a_network_is(
    bare: tuple[str, ...], scans: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    out = tmp_path / "результат мой" / "t1.nii.gz"
    done = command("convert", str(scans), "-o", str(out), env=environment(home), before=bare)
    assert done.returncode == 0, done.stderr
    assert out.is_file()
    assert "pseudonyms differ from run to run" in done.stderr


def test_names_in_an_alphabet_that_the_locale_lacks_are_named_with_the_remedy(scans: Path, tmp_path: Path) -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command("doctor", "--json", env=environment(tmp_path, **ascii_only))
    assert done.returncode == 0, done.stderr
    assert sum("set PYTHONUTF8=1" in sentence for sentence in json.loads(done.stdout)["troubles"]) == 1
    # and letters that the output lacks are printed as their codes, in JSON as JSON has them
    done = command("info", str(scans), env=environment(tmp_path, **ascii_only))
    assert (done.returncode, r"5\xd76\xd73" in done.stdout) == (0, True), done.stderr
    done = command("info", str(scans), "--json", env=environment(tmp_path, **ascii_only))
    assert len(json.loads(done.stdout)["series"]) == 1, done.stderr


def test_without_a_home_at_all(tmp_path: Path, scans: Path) -> None:
    """A HOME that does not exist, as in some containers; a user without an entry has none either."""
    gone = tmp_path / "gone"
    if os.geteuid() == 0:
        gone = Path("/proc/gone")  # where nobody can make it
    done = command("doctor", "--json", env=environment(gone))
    assert done.returncode == 0, done.stderr
    assert any("set HOME to a folder that exists" in said for said in json.loads(done.stdout)["troubles"])
    out = tmp_path / "t1.nii.gz"
    done = command("convert", str(scans), "-o", str(out), env=environment(gone))
    assert done.returncode == 0, done.stderr
    assert out.is_file()
