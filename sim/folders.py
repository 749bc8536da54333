"""The one way in which a command publishes what it made: a whole folder, or some files in a folder that has others.

Beside a target ``T`` there may be, all hidden:

``.T.lock``           held with flock by the one process that writes T; a process that is killed lets go of it
``.T.DIGITS.part/``   where the next T is made; that of a run keeps its finished replications, and the digits are those
                      of its inputs' fingerprint, so that the same command goes on where it was
``.T.DIGITS.old``     the earlier T, for the moment between the two renames that put the next one in its place

What was made is on the disk before it gets the name. Whoever locks T next, or reads it and does not find it, puts the
earlier T back if the exchange was cut short, and removes what processes that died left behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import escape
from pathlib import Path

from routesim.sim.errors import BadInput
from routesim.sim.files import TEMPORARY, synchronise, write_bytes, writing

_MOMENT_S = 0.02  # between two looks at an exchange that another process is about to end
_LOOKS = 100


@dataclass(frozen=True)
class Kind:
    """What the folders of one command hold.

    ``what`` names one in messages. ``names``: patterns of all that it may hold; whatever else lies in a folder is the
    user's own. ``mark`` is the file that every one has: a folder without it is not replaced; None: only an empty folder
    is. ``shared``: the user's own files may lie in it and stay there, and no mark is asked for.
    """

    what: str
    names: tuple[str, ...] = ()
    mark: str | None = None
    shared: bool = False

    def owns(self, name: str) -> bool:
        """Whether an entry of that name is the command's own and not the user's."""
        return any(fnmatch(name, pattern) for pattern in (*self.names, TEMPORARY, ".*.html.lock"))


@dataclass(frozen=True)
class Work:
    """``made`` is filled with what will be published, ``kept`` with what an interrupted command goes on from;
    ``scratch`` is for what is needed meanwhile."""

    made: Path
    kept: Path
    scratch: Path


@dataclass(frozen=True)
class Claim:
    """A target that this process alone may write, until the block of ``claimed`` ends. ``out``: as the user names it;
    ``target``: where it lies, symbolic links followed."""

    out: Path
    target: Path
    kind: Kind

    @contextmanager
    def work(self, fingerprint: str | None = None) -> Iterator[Work]:
        """Yield the folders to work in; when the block ends well, what was made takes the target's place.

        With a ``fingerprint`` of all inputs, a block that fails leaves what it kept to the next one of the same
        fingerprint; without, it leaves nothing. Raises BadInput when the folder cannot be written or is full.
        """
        digits = secrets.token_hex(8) if fingerprint is None else hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        folder = _beside(self.target, digits, "part")
        work = Work(*(folder / name for name in ("made", "kept", "scratch")))
        for left in _left(self.target, "part"):
            # What was published is no longer in it, so that what was kept beside it is worth nothing.
            if left != folder or not work.made.is_dir():
                shutil.rmtree(left, ignore_errors=True)
        try:
            with writing(self.out):
                for each in (work.made, work.kept, work.scratch):
                    each.mkdir(parents=True, exist_ok=True)
            yield work
            with writing(self.out):
                self._publish(work.made, _beside(self.target, digits, "old"))
        except BaseException as error:
            if fingerprint is None or not work.kept.is_dir() or not any(work.kept.iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, BadInput):  # what is wrong with the hidden folder is told of the one that is meant
                raise BadInput(error.message, error.where and error.where.replace(str(work.made), str(self.out))) \
                    from None
            raise
        shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, made: Path, old: Path) -> None:
        check_replaceable(self.out, self.kind)  # the user may have put something there meanwhile
        for left in [path for path in made.rglob(TEMPORARY) if path.is_file()]:
            left.unlink()
        for folder, _, files in os.walk(made, topdown=False):
            for name in files:
                synchronise(Path(folder) / name)
            synchronise(Path(folder))
        replaced = self.target.is_dir()
        if replaced:
            if self.kind.shared:
                for entry in self.target.iterdir():
                    if not self.kind.owns(entry.name):
                        _carry(entry, made / entry.name)
            synchronise(made)
            shutil.copymode(self.target, made)
            self.target.rename(old)
        try:
            made.rename(self.target)
        except OSError:
            if replaced:
                old.rename(self.target)
            raise
        synchronise(self.target.parent)
        shutil.rmtree(old, ignore_errors=True)


@contextmanager
def claimed(out: Path | Claim, kind: Kind) -> Iterator[Claim]:
    """Lock the folder ``out`` before the work begins, and mend what a process that was killed left half done.

    Raises BadInput at once where another process writes it, where it holds something of the user's, or where it cannot
    be written. What is claimed already is handed on.
    """
    if isinstance(out, Claim):
        yield out
        return
    target = resolved(out)
    if Path.cwd().is_relative_to(target):
        raise BadInput("is where you are, which cannot be replaced; name a folder below it", str(out))
    if target.is_mount():
        raise BadInput("is where a file system is mounted, which cannot be replaced; name a folder below it", str(out))
    with _parents(target, out), _locked(target, out):
        _mend(target, out)
        check_replaceable(out, kind)
        yield Claim(out, target, kind)


@contextmanager
def publishing(out: Path | Claim, kind: Kind) -> Iterator[Path]:
    """Yield a new folder that takes the place of ``out`` when the block ends well. Raises BadInput as ``claimed``."""
    with claimed(out, kind) as claim, claim.work() as work:
        yield work.made


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep other processes from writing the file or folder ``out`` meanwhile. Raises BadInput where one does."""
    target = resolved(out)
    if target.is_dir() and not os.access(target.parent, os.W_OK):  # where nobody can exchange it
        yield
        return
    with _parents(target, out), _locked(target, out):
        _mend(target, out)
        yield


@contextmanager
def placing(folder: Path, name: str) -> Iterator[Path]:
    """Yield a new folder whose files, as ``name`` calls them together, are moved into ``folder`` when the block ends
    well: all of them, if need be by the next who places some. Other files of ``folder`` stay.

    Raises BadInput at once where another process places some, or where the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput("is a file; choose a folder", str(folder))
    whole = resolved(folder)
    place = whole / name  # no file: what the hidden names are made of
    with _parents(place, folder), _locked(place, folder):
        for left in _left(place, "new"):
            _place(left, whole)
        for left in _left(place, "part"):
            shutil.rmtree(left, ignore_errors=True)
        digits = secrets.token_hex(8)
        part, new = _beside(place, digits, "part"), _beside(place, digits, "new")
        try:
            with writing(folder):
                part.mkdir()
            yield part
            with writing(folder):
                for file in (*part.iterdir(), part):
                    synchronise(file)
                part.rename(new)
                _place(new, whole)
        except BadInput as error:
            raise BadInput(error.message, error.where and error.where.replace(str(part), str(folder))) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)


def publish_file(path: Path, content: bytes) -> None:
    """Write a file that others may write too, whole or not at all. Raises BadInput as ``held``."""
    with held(path):
        whole = resolved(path)
        for left in whole.parent.glob(f".{escape(whole.name)}.[0-9]*.part"):
            left.unlink()
        write_bytes(whole, content)
        synchronise(whole.parent)


def check_replaceable(out: Path, kind: Kind) -> None:
    """Raise BadInput unless ``out`` is absent, empty, or an earlier folder of its kind with nothing of the user's."""
    if out.exists() and not out.is_dir():
        raise BadInput(f"is a file; choose a folder for the {kind.what}", str(out))
    if kind.shared or not out.is_dir():
        return
    names = sorted(entry.name for entry in out.iterdir())
    if names and (kind.mark is None or not (out / kind.mark).exists()):
        article = "an" if kind.what[0] in "aeiou" else "a"
        raise BadInput("the folder is not empty; choose another one" if kind.mark is None else
                       f"the folder holds something else than {article} {kind.what}; choose another one", str(out))
    for name in names:
        if not kind.owns(name):
            raise BadInput(f"the folder also holds {name!r}, which would be lost; choose another one", str(out))


def recover(folder: Path) -> None:
    """Put back the earlier ``folder`` where a process was killed between the renames that exchange it. To be called
    before it is read."""
    target = resolved(folder)
    for _ in range(_LOOKS):
        if target.exists() or not _left(target, "old"):
            return
        try:
            with held(folder):
                return
        except BadInput:  # the process that writes it is alive, and is about to end the exchange
            time.sleep(_MOMENT_S)


def resolved(out: Path) -> Path:
    """Where ``out`` lies, symbolic links followed. Raises BadInput where they go round in a circle."""
    try:
        return out.resolve()
    except (OSError, RuntimeError) as error:
        raise BadInput(f"cannot be followed: {error}", str(out)) from None


@contextmanager
def _locked(target: Path, out: Path) -> Iterator[None]:
    path = target.with_name(f".{target.name}.lock")
    with writing(out):
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock), path.stat()):
                        break
            except BlockingIOError:
                os.close(lock)
                raise BadInput("another process is writing it; wait until it is done, or choose another one",
                               str(out)) from None
            except OSError:
                os.close(lock)
                raise
            os.close(lock)  # of a file that its holder has removed since
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(lock)


@contextmanager
def _parents(target: Path, out: Path) -> Iterator[None]:
    """Make the folders above a target; when the block fails, those that were made and are empty go again."""
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        with writing(out):
            target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


def _beside(target: Path, digits: str, ending: str) -> Path:
    return target.with_name(f".{target.name}.{digits}.{ending}")


def _left(target: Path, ending: str) -> list[Path]:
    """What lies beside a target under such a hidden name."""
    hidden = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{16}}\.{ending}")
    with suppress(OSError):
        return sorted(path for path in target.parent.iterdir() if hidden.fullmatch(path.name))
    return []


def _mend(target: Path, out: Path) -> None:
    """End or undo an exchange that was cut short."""
    for old in _left(target, "old"):
        with writing(out):
            if target.exists() and not (old.with_suffix(".part") / "made").exists():
                shutil.rmtree(old, ignore_errors=True)  # the next one had taken its place
                continue
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            if target.exists():
                raise BadInput(f"something else has taken the place of what was here, which now lies beside it as "
                               f"{old.name}; move one of them away", str(out))
            old.rename(target)
    for part in _left(target, "part"):
        if not (part / "made").exists():  # it has been published
            shutil.rmtree(part, ignore_errors=True)


def _place(new: Path, folder: Path) -> None:
    for file in sorted(new.iterdir()):
        file.replace(folder / file.name)
    synchronise(folder)
    new.rmdir()


def _carry(entry: Path, to: Path) -> None:
    """Let a file or folder of the user's lie in both places, by a second name of the same file where that can be."""
    def link(source: str, target: str) -> None:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, target, follow_symlinks=False)

    if entry.is_dir() and not entry.is_symlink():
        shutil.copytree(entry, to, symlinks=True, copy_function=link)
    else:
        link(str(entry), str(to))
