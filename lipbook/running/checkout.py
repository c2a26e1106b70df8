"""Find the book: the folder that holds `_toc.yml`, `_config.yml` and `notebooks/`."""

from __future__ import annotations

from pathlib import Path

from lipbook.running.errors import Misuse


def is_root(folder: Path) -> bool:
    """Say whether a folder is the root of a checkout of the book."""
    files = (folder / "_toc.yml", folder / "_config.yml")
    return all(file.is_file() for file in files) and (folder / "notebooks").is_dir()


def find_root(start: Path | None = None) -> Path:
    """Return the root of the checkout that holds `start`, else of the one lipbook runs from.

    Args:
        start: Where to begin looking, upwards; the current folder if None.

    Raises:
        Misuse: There is no checkout in either place.
    """
    here = (start or Path.cwd()).resolve()
    installed = Path(__file__).resolve().parents[2]
    for folder in (here, *here.parents, installed):
        if is_root(folder):
            return folder
    raise Misuse(
        "`current folder` must be inside a checkout of the book (it has _toc.yml, _config.yml and "
        f"notebooks/). Got {here}. Change into your clone of the repository, or clone it first."
    )
