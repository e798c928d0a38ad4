"""Running a verb on a worker of an existing Dask cluster, so that a laptop's viewer can use the group's GPU server.

A model is sent once: it stays in the worker's cache folder under the SHA-256 of its files, and is loaded from there like
any bundle, so that nothing in it is executed. Images are sent and results come back with each call; progress and
cancelling work as on this computer.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import numpy as np

from napari_medseq.errors import DeviceError, ModelError, heard, warn
from napari_medseq.models import Model, bundle, load_model
from napari_medseq.progress import Cancelled, Progress, check
from napari_medseq.sequence import ImageSequence

if TYPE_CHECKING:
    from distributed import Client, Event, Future

    from napari_medseq.inference.inputs.images import Images

Result = TypeVar("Result")
Answer = TypeVar("Answer")


class _Place(TypedDict):
    """The worker that Dask runs a task on."""

    workers: list[str]
    allow_other_workers: bool
    pure: bool


_PATIENCE = 10.0  # seconds that a scheduler may take to answer
_EVERY = 0.2  # seconds between checks of progress and cancelling


def call(
    device: str,
    verb: Callable[..., Result],
    images: Images,
    model: Model | Sequence[Model],
    options: Mapping[str, object],
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Result:
    """Run ``segment``, ``classify`` or ``explain`` on a worker.

    Parameters
    ----------
    device : str
        "dask://host:port" of a scheduler.
    verb : callable
        The verb itself, which the worker imports by its name.
    images : ImageSequence, mapping, or sequence of Visit
        Computed before they are sent.
    model : Model or sequence of Model
        Each loaded from a bundle folder; the verb gets a list if this is a sequence.
    options : mapping
        The verb's other keywords.
    progress, cancelled : callable, optional

    Raises
    ------
    DeviceError
        If `distributed` is not installed, the scheduler cannot be reached, or it has no worker with this package.
    MedseqError
        What the call itself raises there.
    """
    try:
        from distributed import Client, Event
    except ImportError:
        raise DeviceError(
            f"{device!r} needs Dask's scheduler client: pip install 'napari-medseq[cluster]', then try again."
        ) from None
    bundles = [packed(m) for m in ([model] if isinstance(model, Model) else model)]
    digests = [content_hash(files) for files in bundles]
    sent = digests[0] if isinstance(model, Model) else digests
    address = "tcp://" + device.removeprefix("dask://")
    try:
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise DeviceError(
            f"No Dask scheduler answers at {device!r} ({str(error) or 'no answer'}); is it running?"
        ) from None
    with client:
        worker = _worker(client, device)
        at: _Place = {"workers": [worker], "allow_other_workers": False, "pure": False}
        job = f"napari-medseq-{uuid.uuid4().hex}"
        stop = Event(job, client=client)
        seen = _Progress(progress)
        client.subscribe_topic(job, seen.add)
        try:
            for digest, files in zip(digests, bundles, strict=True):
                if not _result(client, client.submit(has, digest, **at), device, cancelled):
                    _result(client, client.submit(put, digest, files, **at), device, cancelled)
            future: Future[tuple[Result, list[str]]] = client.submit(
                work, verb, computed(images), sent, _with_computed_labels(options), job, **at
            )
            result, notes = _result(client, future, device, cancelled, stop, seen)
        finally:
            client.unsubscribe_topic(job)
    seen.tell()
    for text in notes:
        warn(text)
    return result


class _Progress:
    """Progress of a worker, reported in the caller's thread."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.last: tuple[int, int, str] | None = None
        self.reported: tuple[int, int, str] | None = None

    def add(self, event: tuple[float, tuple[int, int, str]]) -> None:
        self.last = event[1]

    def tell(self) -> None:
        if self.progress is not None and self.last is not None and self.last != self.reported:
            self.reported = self.last
            self.progress(*self.last)


def _worker(client: Client, device: str) -> str:
    """The address of the worker with the least to do."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    if not workers:
        raise DeviceError(f"The Dask cluster at {device!r} has no worker; start one there: dask worker HOST:PORT.")
    busy = {a: w.get("metrics", {}).get("executing", 0) for a, w in workers.items()}
    return str(min(busy, key=lambda a: (busy[a], a)))


def _result(
    client: Client,
    future: Future[Answer],
    device: str,
    cancelled: Cancelled | None,
    stop: Event | None = None,
    seen: _Progress | None = None,
) -> Answer:
    """The result of the future; until it is there, progress is reported and `cancelled` is called."""
    from distributed import KilledWorker

    over = threading.Event()
    future.add_done_callback(lambda _: over.set())
    while not future.done():
        over.wait(_EVERY)
        if seen is not None:
            seen.tell()
        try:
            check(cancelled)
        except BaseException:
            if stop is not None:
                stop.set()
            client.cancel(future)
            raise
    try:
        answer: Answer = future.result()
        return answer
    except (ModuleNotFoundError, AttributeError) as error:
        raise DeviceError(
            f"A worker of {device!r} cannot do it ({error}): it needs the same version of napari-medseq as this computer."
        ) from None
    except KilledWorker:
        raise DeviceError(f"The worker of {device!r} died, perhaps for want of memory; see its log.") from None


def packed(model: Model) -> dict[str, bytes]:
    """All files of a model's bundle as bytes, by relative path.

    Raises
    ------
    ModelError
        If the model was not loaded from a folder that is still there.
    """
    folder = Path(model.info.folder)
    if not model.info.folder or not folder.is_dir():
        raise ModelError(f"{model.info.name} has no bundle folder any more, so it cannot be sent; load it again.")
    names = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in names}


def content_hash(files: Mapping[str, bytes]) -> str:
    """SHA-256 over names and contents."""
    digest = hashlib.sha256()
    for name in sorted(files):
        for part in (name.encode(), files[name]):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def computed(images: Images) -> Images:
    """Images with numpy data, so that a lazy one is read on this computer, which has its file."""
    if isinstance(images, ImageSequence):
        return _computed(images)
    if isinstance(images, Mapping):
        return {k: _computed(v) for k, v in images.items()}
    return [replace(v, images=tuple(_computed(i) for i in v.images), labels=()) for v in images]


def _computed(image: ImageSequence) -> ImageSequence:
    return image.replace(data=np.asarray(image.data))


def _with_computed_labels(options: Mapping[str, object]) -> dict[str, object]:
    """The options with the locked labels, if there are any, read on this computer too."""
    keep = options.get("keep")
    return {**options, "keep": _computed(keep) if isinstance(keep, ImageSequence) else None}


# -- on the worker -------------------------------------------------------------------------------------------------------------
def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("napari-medseq")) / "sent"


def has(digest: str) -> bool:
    """Whether a model is in this worker's cache."""
    return (_cache() / digest / bundle.METADATA).is_file()


def put(digest: str, files: Mapping[str, bytes]) -> None:
    """Store a model in this worker's cache.

    Raises
    ------
    ModelError
        If the files do not have this digest, or a name leads out of the folder.
    """
    if content_hash(files) != digest:
        raise ModelError("The model that arrived is not the one that was sent; try again.")
    root = _cache()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as name:
        folder = Path(name) / "bundle"
        for relative, content in files.items():
            path = (folder / relative).resolve()
            if not path.is_relative_to(folder.resolve()):
                raise ModelError(f"The model holds a file {relative[:80]!r} outside its folder; it is refused.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            os.replace(folder, root / digest)
        except OSError:
            if not has(digest):  # another thread was faster
                raise


def work(
    verb: Callable[..., Result], images: Images, sent: str | Sequence[str], options: Mapping[str, object], job: str
) -> tuple[Result, list[str]]:
    """Run the verb on this worker's best device, and return its result and its warnings.

    Parameters
    ----------
    verb : callable
    images : ImageSequence, mapping, or sequence of Visit
    sent : str or sequence of str
        Digest of the model, or of each of several models.
    options : mapping
        The verb's other keywords.
    job : str
        Name under which progress is reported and cancelling is requested.
    """
    from distributed import Event, get_worker

    worker, stop = get_worker(), Event(job)
    looked = [time.monotonic(), False]

    def cancelled() -> bool:
        if time.monotonic() - looked[0] > _EVERY:
            looked[:] = [time.monotonic(), stop.is_set()]
        return bool(looked[1])

    def progress(done: int, total: int, message: str) -> None:
        worker.log_event(job, (done, total, message))

    chosen_options = {k: v for k, v in options.items() if k != "keep" or v is not None}
    with heard() as doubts, warnings.catch_warnings(record=True):
        result = verb(
            images,
            _received(sent) if isinstance(sent, str) else [_received(digest) for digest in sent],
            device="auto",
            progress=progress,
            cancelled=cancelled,
            **chosen_options,
        )
    return result, doubts


def _received(digest: str) -> Model:
    return load_model(_cache() / digest)
