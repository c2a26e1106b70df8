"""When, where and with which versions a chapter ran, and where its record goes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

VERSIONED = ("numpy", "scipy", "pandas", "matplotlib", "seaborn", "sklearn", "statsmodels", "torch")


def record_path(name: str) -> Path | None:
    """Return the file that the environment names for this chapter's record, or None."""
    if path := os.environ.get("LIPBOOK_RECORD"):
        return Path(path)
    folder = os.environ.get("LIPBOOK_RECORD_DIR")
    return Path(folder) / f"{name}.json" if folder else None


def provenance(started_at: datetime, duration: float) -> dict[str, Any]:
    """Return when, where and with which versions a run was made; never compared."""
    distributions = {"sklearn": "scikit-learn"}
    names = ["lipbook", *(name for name in VERSIONED if name in sys.modules)]
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(distributions.get(name, name))
        except importlib.metadata.PackageNotFoundError:  # used from a folder, not installed
            versions[name] = "not installed"
    torch = sys.modules.get("torch")
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads() if torch is not None else os.cpu_count(),
        "started_at": started_at.isoformat(timespec="seconds"),
        "duration_s": duration,
        "host": platform.node(),
    }


def cpu_name() -> str:
    """Return the processor's name, or its architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
