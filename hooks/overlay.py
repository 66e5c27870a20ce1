"""Lays a service over a directory that has files: all of its own files, or none.

cookiecutter writes straight over what is there. So `prepare` first generates the
service aside, where it is judged, and keeps a copy of every file that has a namesake in
it; after cookiecutter, `finish` puts each file in its place, and `undo` all of them
back. What the template has no namesake of is neither read nor changed.

pre_gen_project.py loads this module from the template, post_gen_project.py the copy of
it that `prepare` leaves in the directory. Standard library only.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

WORK = Path(".generating")
AFTER = WORK / "after"  # the service as it should be
BEFORE = WORK / "before"  # what was there under the same names
COMPLETE = WORK / "complete"  # there once BEFORE has all of them
OWN = WORK / "of-the-template"  # else a directory of this name is the user's
OPTIONS = Path("_options")
# The template has a file of this name, which cookiecutter writes unless it skips those
# that exist: nothing else tells a hook of --skip-if-file-exists.
WITNESS = OPTIONS / "replaced"


class Obstacle(Exception):
    """What is in the way of a file of the service."""


def prepare(generate: Callable[[Path], Path]) -> None:
    """Generate the service aside and keep what it would replace.

    Args:
        generate: makes the service in the directory it is given, and returns its path.

    Raises:
        Obstacle: if a file or directory of the service has no place.
    """
    check_work()
    undo()
    try:
        WORK.mkdir()
        OWN.touch()
        generate(WORK / "made").rename(AFTER)
        names = list(files_in(AFTER))
        for name in names:
            check_place(name)
        check_options()
        for name in filter(os.path.isfile, names):
            copy(name, BEFORE / name)
        if OPTIONS.exists():
            shutil.copytree(OPTIONS, BEFORE / OPTIONS, symlinks=True)
        COMPLETE.touch()
        if BEFORE.exists():  # else there is nothing to skip
            WITNESS.parent.mkdir(exist_ok=True)
            WITNESS.write_text("", encoding="utf-8")
        shutil.copy(__file__, WORK)
    except BaseException:
        undo()
        raise


def check_work() -> None:
    """See to it that WORK can be made, and that what is there is of an earlier run.

    Raises:
        Obstacle: if it is the user's, or missing rights are in the way.
    """
    is_own = not WORK.is_symlink() and WORK.is_dir()
    is_own = is_own and (OWN.is_file() or not any(WORK.iterdir()))
    if os.path.lexists(WORK) and not is_own:
        raise Obstacle(
            f"{WORK} is yours, and the service is made there for a moment: rename it."
        )
    if not os.access(".", os.W_OK | os.X_OK):
        raise Obstacle(
            f"{Path.cwd()} may not be written to: chmod u+w, or ask its owner."
        )


def check_place(name: Path) -> None:
    """See to it that a file can be written under its name.

    Raises:
        Obstacle: if a link, a directory, a file or missing rights are in the way.
    """
    for path in (name, *name.parents):
        if path.is_symlink():
            raise Obstacle(
                f"{path} is a link to what is none of the service's: rename it."
            )
    if name.is_dir():
        raise Obstacle(
            f"{name} is a directory, and the service has a file there: rename it."
        )
    if name.exists() and not name.is_file():
        raise Obstacle(f"{name} is no ordinary file: rename it.")
    for parent in name.parents:
        if parent.exists() and not parent.is_dir():
            raise Obstacle(
                f"{parent} is a file, and the service has a directory there: rename it."
            )
    # A file that exists is first written to, then replaced in its directory.
    directory = next(path for path in name.parents if path.exists())
    for path in filter(Path.exists, (name, directory)):
        if not os.access(path, os.W_OK):
            raise Obstacle(
                f"{path} may not be written to: chmod u+w, or ask its owner."
            )


def check_options() -> None:
    """See to it that cookiecutter can make the template's options here for a moment.

    Raises:
        Obstacle: if a file, or a link that leads elsewhere, is in the way.
    """
    for path in (OPTIONS, *OPTIONS.rglob("*")):
        if path.is_symlink() or (path == OPTIONS and path.is_file()):
            raise Obstacle(f"{path} is in the way of the template's files: rename it.")


def finish() -> list[Path]:
    """Put each file of the service in its place, and tell which are the service's.

    Where cookiecutter skips files that exist, those are as they were.
    """
    skip = WITNESS.read_text(encoding="utf-8") == ""
    written = []
    for name in files_in(AFTER):
        if skip and (BEFORE / name).exists():
            put(BEFORE / name, name)
        else:
            put(AFTER / name, name)
            written.append(name)
    restore_options()
    shutil.rmtree(WORK)
    return written


def undo() -> None:
    """Leave every file as it was before `prepare`; also after it was interrupted."""
    if COMPLETE.exists():
        for name in filter(is_generated, files_in(AFTER)):
            if (BEFORE / name).exists():
                put(BEFORE / name, name)
                continue
            name.unlink()
            remove_empty(name.parent)
        restore_options()
    shutil.rmtree(WORK, ignore_errors=True)


def is_generated(name: Path) -> bool:
    """Return whether a file is what was generated or a part of it, so not edited."""
    if not name.is_file():
        return False
    return (AFTER / name).read_bytes().startswith(name.read_bytes())


def restore_options() -> None:
    """Leave of _options what was there before."""
    shutil.rmtree(OPTIONS, ignore_errors=True)
    if (BEFORE / OPTIONS).exists():
        shutil.copytree(BEFORE / OPTIONS, OPTIONS, symlinks=True)


def files_in(directory: Path) -> Iterator[Path]:
    """Yield the files of a directory, relative to it."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path.relative_to(directory)


def copy(source: Path, target: Path) -> None:
    """Copy a file with its times and rights."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def put(source: Path, target: Path) -> None:
    """Give a file its content at once, unless it has it: nobody sees a half of it."""
    if is_same(source, target):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside it, as a directory may be a mount: nothing is renamed into another one.
    # Under a name that nobody has.
    handle, name = tempfile.mkstemp(".generating", f"{target.name}.", target.parent)
    os.close(handle)
    part = target.with_name(os.path.basename(name))
    try:
        shutil.copy2(source, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def is_same(one: Path, other: Path) -> bool:
    """Return whether two files have the same content, time and rights."""
    if not other.is_file():
        return False
    first, second = one.stat(), other.stat()
    same = (first.st_mode, first.st_mtime_ns) == (second.st_mode, second.st_mtime_ns)
    return same and one.read_bytes() == other.read_bytes()


def remove_empty(directory: Path) -> None:
    """Remove a directory, and those above it, as far as nothing is in them."""
    while directory.parts and directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent
