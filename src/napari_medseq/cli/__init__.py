"""``napari-medseq``: the command line over the public API, with one subcommand per verb.

Exit status: 0 done, 1 the input is bad (one clear line on stderr, no traceback), 2 wrong usage, 130 interrupted. Answers
go to stdout, everything else to stderr. Nothing heavy is imported before a subcommand runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from napari_medseq import faults, files
from napari_medseq.cli.common import complain, printable
from napari_medseq.errors import MedseqError, MedseqWarning, OperationCancelled


class _Version(argparse.Action):
    """Looks the version up only when it is needed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from napari_medseq import __version__

        print(f"napari-medseq {__version__}")
        parser.exit()


#: Commands whose answers contain patients' pseudonyms.
_OF_PATIENTS = ("info", "convert", "run", "track", "cohort", "dicom", "retest")


#: options that name a file or folder to write; what stands in its way is said before any work
_OUTPUTS = ("out", "probability", "uncertainty", "transform", "save_steps", "preview")

#: keywords of the API that messages name, and the options that they are here
_OPTIONS = {"series": "--series", "reference": "--reference", "references": "--reference", "sha256": "--sha256"}
_KEYWORDS = re.compile(rf"\b({'|'.join(_OPTIONS)})=(?=[\s.,;)]|$)")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from napari_medseq.cli import carry, demo, doctor, follow, images, inside, learn, preparing, results, use

    top = argparse.ArgumentParser(
        prog="napari-medseq",
        description="Open, segment and follow medical image sequences, lesion by lesion. Research software, not a medical device.",
        epilog="To begin: `napari-medseq demo` shows the main job on a synthetic patient, `napari-medseq info FOLDER` what a folder of "
        "yours holds, `napari-medseq models` the models, and `napari-medseq COMMAND --help` the options of a command.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version number and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for part in (images, preparing, learn, use, carry, inside, follow, results, demo, doctor):
        part.add(commands)
    for name in _OF_PATIENTS:
        commands.choices[name].add_argument(
            "--pseudonyms",
            metavar="KEYFILE",
            help="the key file of patients' pseudonyms; it is created if it does not exist (default: your own key)",
        )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status; the console script ``napari-medseq``."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # where the output's encoding lacks a letter, its code is printed
        sys.stdout.reconfigure(errors="backslashreplace")
    args = parser().parse_args(arguments)
    with _told_on_stderr():
        try:
            if getattr(args, "pseudonyms", None):
                from napari_medseq.io.pseudonyms import use_key_file

                use_key_file(args.pseudonyms)
            for option in _OUTPUTS:
                if getattr(args, option, None):
                    files.check_place(getattr(args, option))
            status: int | None = args.run(args)
            sys.stdout.flush()
            return status or 0
        except KeyboardInterrupt:
            return _failed("Interrupted: what was finished before stays, and no file is half written.", 130)
        except OperationCancelled as error:
            return _failed(str(error), 130)
        except MedseqError as error:
            told = _KEYWORDS.sub(lambda m: _OPTIONS[m[1]], str(error)).replace("force=True", "--force")
            return _failed(told, error=error)
        except BrokenPipeError:  # the reader of the output ended, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except MemoryError:
            return _failed("There is not enough memory for this; try a smaller image or close other programs.")
        except OSError as error:
            return _failed(f"{error.filename or 'The system'}: {error.strerror or error}.")
        except Exception as error:
            if os.environ.get("NAPARI_MEDSEQ_DEBUG"):
                raise
            return _failed(
                error=error,
                message=f"This should not happen ({type(error).__name__}: {error}). Run it again with NAPARI_MEDSEQ_DEBUG=1 for "
                "the details, and report them (napari-medseq doctor --report).",
            )


def _failed(message: str, status: int = 1, *, error: Exception | None = None) -> int:
    if error is not None:
        faults.note("command", error)
    complain(message)
    return status


@contextmanager
def _told_on_stderr() -> Iterator[None]:
    """Print the warnings of this package on stderr, each once and on one line; those of libraries do not concern the
    user."""
    printed: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = " ".join(str(message).split())
        if text not in printed:
            printed.add(text)
            print(f"napari-medseq: warning: {printable(text)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", MedseqWarning)
        warnings.showwarning = show
        yield
