"""Adding, checking and removing models: whole or not at all, and never outside the model folder."""

from __future__ import annotations

import errno
import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from napari_medseq.errors import MedseqError, ModelError, OperationCancelled
from napari_medseq.models import bundle, install, list_models, load_model
from napari_medseq.models.library import SHIPPED
from tests.unit.models.bundles import edit, write
from tests.unit.models.foreign import UNET, write_foreign


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "user" / "models"
    monkeypatch.setenv("NAPARI_MEDSEQ_MODELS", str(folder))
    return folder


def zipped(folder: Path, out: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for path in sorted(folder.rglob("*")):
            z.write(path, prefix + path.relative_to(folder).as_posix())
    return out


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def installed(root: Path) -> list[str]:
    return sorted(p.name for p in root.glob("*") if p.name != ".downloads") if root.is_dir() else []


@pytest.mark.parametrize("form", ["folder", "zip", "zip with a folder in it"])
@pytest.mark.parametrize("foreign", [False, True])
def test_added_listed_verified_and_removed(tmp_path: Path, root: Path, form: str, foreign: bool) -> None:
    source = write_foreign(tmp_path / "zoo", UNET) if foreign else write(tmp_path / "tiny")
    name = source.name
    if form != "folder":
        source = zipped(source, tmp_path / f"{name}.zip", f"{name}/" if "in it" in form else "")
    info = install.add(source)
    assert info.name == name
    assert installed(root) == [name]
    assert name in [i.name for i in list_models()]
    assert install.verify(name).parameters == load_model(name).info.parameters
    assert install.remove(name) == root / name
    assert installed(root) == []


def test_what_changed_since_is_found(tmp_path: Path, root: Path) -> None:
    install.add(write(tmp_path / "tiny"))
    card = root / "tiny" / "docs" / "README.md"
    card.write_text("trust me")
    (root / "tiny" / "models" / "extra.pt").write_bytes(b"")
    with pytest.raises(ModelError, match=r"2 files are not as they were.*docs/README.md, models/extra.pt"):
        install.verify("tiny")


def test_nothing_is_replaced_and_a_name_can_be_given(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "tiny")
    install.add(source)
    with pytest.raises(ModelError, match="already"):
        install.add(source)
    install.add(source, name="second")
    assert installed(root) == ["second", "tiny"]
    for bad in ("../evil", "", ".hidden", "a/b", "x" * 99):
        with pytest.raises(ModelError, match="cannot be the name"):
            install.add(source, name=bad or "..")


def test_only_the_users_own_models_are_removed(tmp_path: Path, root: Path) -> None:
    root.mkdir(parents=True)
    mine = write(tmp_path / "mine")
    shipped = [i.name for i in list_models() if Path(i.folder).parent == SHIPPED]
    for name in (str(mine), *shipped):
        with pytest.raises(ModelError, match="not removed"):
            install.remove(name)
    assert mine.is_dir()
    with pytest.raises(ModelError, match="no model 'nosuch'"):
        install.remove("nosuch")


def malicious(path: Path, name: str, link: bool = False) -> Path:
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("configs/metadata.json", "{}")
        entry = zipfile.ZipInfo(name)
        if link:
            entry.external_attr = 0o120777 << 16
        z.writestr(entry, "/etc/passwd")
    return path


@pytest.mark.parametrize(
    ("name", "link"),
    [
        ("../evil.txt", False),
        ("configs/../../evil.txt", False),
        ("/evil.txt", False),
        ("..\\evil.txt", False),
        ("C:/evil.txt", False),
        ("models/model.pt", True),
    ],
)
def test_archives_that_leave_their_folder_are_refused(tmp_path: Path, root: Path, name: str, link: bool) -> None:
    with pytest.raises(ModelError, match="outside its folder"):
        install.add(malicious(tmp_path / "m.zip", name, link))
    assert installed(root) == []
    assert not list(tmp_path.rglob("evil*"))


def test_archives_that_are_broken_or_too_large_are_refused(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = zipped(write(tmp_path / "tiny"), tmp_path / "tiny.zip").read_bytes()
    bad = tmp_path / "bad.zip"
    for content in (good[: len(good) // 2], b"nonsense", b""):
        bad.write_bytes(content)
        with pytest.raises(ModelError, match="not a whole zip file"):
            install.add(bad)
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("configs/metadata.json", b" " * (4 << 20))
    with pytest.raises(ModelError, match="far too large"):
        install.add(bad)
    with zipfile.ZipFile(bad, "w") as z:
        z.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match="holds no model bundle"):
        install.add(bad)
    bad.write_bytes(good)
    monkeypatch.setattr(install, "_MOST_BYTES", 10)
    with pytest.raises(ModelError, match="more files or bytes"):
        install.add(bad)
    with pytest.raises(ModelError, match="neither a folder nor a zip file"):
        install.add(tmp_path / "nosuch")
    assert installed(root) == []


def test_unsafe_models_and_wrong_sums_are_not_installed(tmp_path: Path, root: Path) -> None:
    archive = zipped(write(tmp_path / "tiny"), tmp_path / "tiny.zip")
    with pytest.raises(ModelError, match=f"SHA-256 {digest(archive)}, not {'0' * 64}"):
        install.add(archive, sha256="0" * 64)
    with pytest.raises(ModelError, match="is not a SHA-256"):
        install.add(archive, sha256="abc")
    edit(tmp_path / "tiny", bundle.INFERENCE, {"inference": {"x": "$import os"}})
    with pytest.raises(ModelError, match="expression"):
        install.add(tmp_path / "tiny")
    assert installed(root) == []
    assert install.add(archive, sha256="sha256:" + digest(archive).upper()).name == "tiny"


def test_links_in_a_folder_are_refused(tmp_path: Path, root: Path) -> None:
    folder = write(tmp_path / "tiny")
    (folder / "docs" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ModelError, match="is a link"):
        install.add(folder)
    assert installed(root) == []


class Server:
    """A local server of one file that can drop a connection, or ignore ranges."""

    def __init__(self, content: bytes) -> None:
        self.content, self.drop_after, self.ranges = content, len(content), True
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.headers["Range"])
                if self.path not in ("/tiny.zip", "/lab/models/resolve/v1/sub/tiny.zip"):
                    self.send_error(404)
                    return
                start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and outer.ranges else 0
                if start >= len(outer.content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(outer.content) - 1}/{len(outer.content)}")
                self.send_header("Content-Length", str(len(outer.content) - start))
                self.end_headers()
                self.wfile.write(outer.content[start : max(start, outer.drop_after)])

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tiny.zip"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    archive = zipped(write(tmp_path / "tiny"), tmp_path / "tiny.zip")
    made = Server(archive.read_bytes())
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.usefixtures("root")
def test_a_download_with_progress(server: Server) -> None:
    seen: list[tuple[int, int]] = []
    total = len(server.content)
    info = install.add(
        server.url, sha256=hashlib.sha256(server.content).hexdigest(), progress=lambda d, t, _: seen.append((d, t))
    )
    assert info.name == "tiny"
    assert seen[-1] == (total, total)
    assert install.verify("tiny").name == "tiny"


@pytest.mark.usefixtures("root")
def test_a_hugging_face_id_is_a_file_of_a_repository(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url.removesuffix("/tiny.zip"))
    sha = hashlib.sha256(server.content).hexdigest()
    assert install.add("hf:lab/models@v1/sub/tiny.zip", sha256=sha).name == "tiny"
    with pytest.raises(ModelError, match="needs the SHA-256"):
        install.add("hf:lab/models@v1/sub/tiny.zip")
    with pytest.raises(ModelError, match=r"hf:owner/repository\[@revision\]/file\.zip"):
        install.add("hf:lab/models", sha256=sha)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(server: Server, root: Path, ranges: bool) -> None:
    sha = hashlib.sha256(server.content).hexdigest()
    server.drop_after = 1000
    with pytest.raises(ModelError, match="dd it again"):
        install.add(server.url, sha256=sha)
    assert installed(root) == []
    server.drop_after, server.ranges = len(server.content), ranges
    assert install.add(server.url, sha256=sha).name == "tiny"
    assert server.asked == [None, "bytes=1000-"]


def test_a_cancelled_download_installs_nothing_and_goes_on(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "_BLOCK", 512)
    seen: list[int] = []
    sha = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(OperationCancelled):
        install.add(server.url, sha256=sha, progress=lambda d, *_: seen.append(d), cancelled=lambda: len(seen) >= 2)
    assert installed(root) == []
    install.add(server.url, sha256=sha)
    assert server.asked[1] == "bytes=1024-"


def test_what_the_server_gives_must_be_what_was_meant(server: Server, root: Path) -> None:
    for url, sha, reason in (
        (server.url, None, "needs the SHA-256"),
        (server.url, "1" * 64, "not 1111"),
        (server.url.replace("tiny", "nosuch"), "2" * 64, "404"),
        ("http://127.0.0.1:9/x.zip", "3" * 64, "could not be downloaded"),
        ("ftp://127.0.0.1/x.zip", "4" * 64, "neither a folder nor a zip file"),
    ):
        with pytest.raises(MedseqError, match=reason):
            install.add(url, sha256=sha)
    assert installed(root) == []
    # a file of another sum is not kept to go on from
    assert install.add(server.url, sha256=hashlib.sha256(server.content).hexdigest()).name == "tiny"


def test_a_model_is_found_by_the_name_that_it_was_given(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "tiny")
    for name in ("tiny", "a-second"):
        install.add(source, name=name)
    assert {"tiny", "a-second"} <= {i.name for i in list_models()}
    for name in ("tiny", "a-second"):
        assert Path(load_model(name).info.folder) == root / name
    install.remove("a-second")
    assert installed(root) == ["tiny"]


def test_a_model_that_another_would_hide_is_not_added(tmp_path: Path, root: Path) -> None:
    source = write(tmp_path / "tiny")
    for name in ("sarcoma", "Sarcoma"):
        with pytest.raises(ModelError, match="a model called sarcoma already"):
            install.add(source, name=name)
    assert installed(root) == []


def test_nothing_of_a_download_stays(server: Server, root: Path) -> None:
    install.add(server.url, sha256=hashlib.sha256(server.content).hexdigest())
    assert sorted(p.name for p in root.iterdir()) == ["tiny"]
    server.content = b"no zip file"
    server.drop_after = len(server.content)
    with pytest.raises(ModelError, match="not a whole zip file"):
        install.add(server.url, sha256=hashlib.sha256(server.content).hexdigest(), name="other")
    assert sorted(p.name for p in root.iterdir()) == ["tiny"]


def test_two_downloads_of_one_model_do_not_write_one_file(
    server: Server, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits, and is then told what the first installed; nothing is downloaded twice."""
    sha, second = hashlib.sha256(server.content).hexdigest(), list[str]()
    monkeypatch.setattr(install, "_BLOCK", 512)

    def another() -> None:
        try:
            second.append(install.add(server.url, sha256=sha).name)
        except MedseqError as error:
            second.append(str(error))

    thread = threading.Thread(target=another)

    def begun(done: int, total: int, message: str) -> None:
        if not thread.ident and message == "downloading" and done < total:
            thread.start()
            thread.join(0.3)  # time to write between, if it could

    assert install.add(server.url, sha256=sha, progress=begun).name == "tiny"
    thread.join()
    assert len(second) == 1
    assert "already" in second[0]
    assert server.asked == [None]
    assert installed(root) == ["tiny"]
    with pytest.raises(OperationCancelled):
        install.add(server.url, sha256=sha, cancelled=lambda: True)
    assert sorted(p.name for p in root.iterdir()) == ["tiny"]


def test_a_zip_file_whose_bytes_are_damaged_is_said_to_be(tmp_path: Path, root: Path) -> None:
    for method in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        path = tmp_path / f"{method}.zip"
        with zipfile.ZipFile(path, "w", method) as z:
            z.writestr("configs/metadata.json", bytes(range(256)) * 64)
        content = bytearray(path.read_bytes())
        content[60:200] = b"\xff" * 140
        path.write_bytes(content)
        with pytest.raises(ModelError, match="whole zip file"):
            install.add(path)
    assert installed(root) == []


def test_a_disk_that_is_full_is_called_so(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = write(tmp_path / "tiny")
    monkeypatch.setattr("shutil.copyfile", full)
    monkeypatch.setattr(install, "_copy_blocks", full)
    for one in (source, zipped(source, tmp_path / "tiny.zip")):
        with pytest.raises(
            ModelError, match=r"could not be installed in .*No space left on device.*NAPARI_MEDSEQ_MODELS"
        ):
            install.add(one)
    assert installed(root) == []
