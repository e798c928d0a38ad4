"""The scripts behind `make demo` and `make test`, on machines that are made up of stubs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX shell scripts")


class Machine:
    """A PATH on which each command does what the test says and writes down that it was called."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.log = folder / "log"
        self.log.write_text("")
        for tool in ("sh", "grep", "sed", "dirname", "cat", "touch", "rm", "env"):
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)

    def has(self, name: str, body: str = "exit 0") -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{body}\n')
        path.chmod(0o755)

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(ROOT / "tools" / script), *arguments],
            env={"PATH": str(self.bin), **variables},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def called(self) -> str:
        return self.log.read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


#: only these are installed
HAS_XVFB = 'case "$*" in *xvfb*|*libglib2.0-0t64*) echo "install ok installed";; *) exit 1;; esac'


def test_nothing_is_done_where_everything_is_there(machine: Machine) -> None:
    machine.has("dpkg-query", HAS_XVFB)
    machine.has("apt-get")
    done = machine.run("system.sh", "xvfb", "libglib2.0-0")  # installed under its newer name, ...t64
    assert done.returncode == 0
    assert "apt-get" not in machine.called
    assert done.stdout == ""


def test_root_installs_what_is_missing_and_asks_nothing(machine: Machine) -> None:
    machine.has("dpkg-query", HAS_XVFB)
    machine.has("apt-get")
    machine.has("id", "echo 0")
    assert machine.run("system.sh", "xvfb", "libegl1", "libgl1").returncode == 0
    assert "apt-get update -qq" in machine.called
    assert "apt-get install -y -qq --no-install-recommends libegl1 libgl1" in machine.called


def test_passwordless_sudo_is_used(machine: Machine) -> None:
    machine.has("dpkg-query", "exit 1")
    machine.has("apt-get")
    machine.has("id", "echo 1000")
    machine.has("sudo", 'test "$1" = -n || exit 9; shift; "$@"')
    assert machine.run("system.sh", "xvfb").returncode == 0
    assert "apt-get install -y -qq --no-install-recommends xvfb" in machine.called


@pytest.mark.parametrize("sudo", [None, "exit 1"])
def test_without_the_right_the_missing_ones_are_named(machine: Machine, sudo: str | None) -> None:
    machine.has("dpkg-query", HAS_XVFB)
    machine.has("apt-get")
    machine.has("id", "echo 1000")
    if sudo:
        machine.has("sudo", sudo)
    done = machine.run("system.sh", "xvfb", "libegl1", "dcm2niix")
    assert done.returncode == 1
    assert "libegl1 dcm2niix" in done.stderr
    assert "xvfb" not in done.stderr
    assert "apt-get" not in machine.called


def test_a_failed_install_names_them_too(machine: Machine) -> None:
    machine.has("dpkg-query", "exit 1")
    machine.has("apt-get", "exit 100")
    machine.has("id", "echo 0")
    done = machine.run("system.sh", "xvfb")
    assert done.returncode == 1
    assert "apt-get install --no-install-recommends xvfb" in done.stderr


def test_an_old_python_is_not_taken(machine: Machine, tmp_path: Path) -> None:
    machine.has("python3", "exit 1")
    done = machine.run("venv.sh", VENV=str(tmp_path / "venv"))
    assert done.returncode == 1
    assert "3.11 or later" in done.stderr


@pytest.mark.parametrize(
    ("torch", "fails", "installs"),
    [
        ("cpu", "", ["torch==2.13.0+cpu"]),
        (
            "cpu",
            "+cpu",
            ["torch==2.13.0+cpu", "--extra-index-url https://download.pytorch.org/whl/cpu", "torch==2.13.0\n"],
        ),
        ("cuda", "", ["--index-url https://pypi.org/simple torch==2.13.0"]),
    ],
)
def test_the_build_of_torch_is_the_one_asked_for(
    machine: Machine, tmp_path: Path, torch: str, fails: str, installs: list[str]
) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    machine.has("fake-python", f'case "$*" in *-c\\ import*) exit 1;; *"{fails or "never"}"*) exit 1;; esac')
    shutil.move(machine.bin / "fake-python", venv / "bin" / "python")
    done = machine.run("venv.sh", VENV=str(venv), TORCH=torch)
    assert done.returncode == 0, done.stderr
    for words in installs:
        assert words in machine.called
    assert "-c constraints.txt" in machine.called


def test_another_index_is_used_for_cuda(machine: Machine, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    machine.has("fake-python")
    shutil.move(machine.bin / "fake-python", venv / "bin" / "python")
    machine.run("venv.sh", VENV=str(venv), TORCH="cuda", TORCH_INDEX="https://example.org/cu128")
    assert "--index-url https://example.org/cu128 torch==2.13.0" in machine.called


def test_an_unknown_build_is_refused(machine: Machine, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    machine.has("fake-python")
    shutil.move(machine.bin / "fake-python", venv / "bin" / "python")
    done = machine.run("venv.sh", VENV=str(venv), TORCH="tpu")
    assert done.returncode == 1
    assert "TORCH=cpu" in done.stderr


def test_ci_runs_the_tests_builds_the_site_and_looks_at_other_versions() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert "set -euo pipefail" in script
    made = [line.partition(" ")[2] for line in script.splitlines() if line.startswith("make ")]
    assert made == ["test", "docs", "compat"]
