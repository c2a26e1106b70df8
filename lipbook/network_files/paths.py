"""Whether a path leads to a file that may be opened; loads nothing heavy."""

from __future__ import annotations

import stat
from pathlib import Path

from lipbook.network_files.errors import refusal

# Bytes of a file, unpacked. 2 GB.
MAX_BYTES = 2_000_000_000
KINDS = "an .npz, a torch state_dict (.pt, .pth), a .safetensors or an .onnx file"
SAVE = "Save the network in one of these."


def checked_path(path: Path) -> Path:
    """Return the path of a regular file of a reasonable size.

    Raises:
        NetworkFileError: no such file, not readable, a folder or a pipe, empty, or too large.
    """
    try:
        status = path.stat()
        is_regular = stat.S_ISREG(status.st_mode)
        if is_regular:  # opening a pipe would wait for its other end
            path.open("rb").close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path"
        got = f"which cannot be opened ({reason})"
        raise refusal(path, "be a readable file", got, "Check the path.") from None
    if not is_regular:
        raise refusal(path, f"be {KINDS}", "which is no regular file", "Name a file.")
    if status.st_size == 0:
        raise refusal(path, f"be {KINDS}", "which is empty", SAVE)
    if status.st_size > MAX_BYTES:
        must = f"have at most {MAX_BYTES:,} bytes"
        raise refusal(path, must, f"with {status.st_size:,}", "Take a smaller network.")
    return path
