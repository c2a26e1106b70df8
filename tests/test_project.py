"""What the project says of itself agrees: requirements, pins, versions, licences, README."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from rattler import MatchSpec

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PYTHONS = ("3.11", "3.12", "3.13")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT: dict[str, Any] = tomllib.loads(read("pyproject.toml"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for group in EXTRAS.values() for line in group] + [
    Requirement(line) for line in PROJECT["dependencies"]
]
PINS = {
    canonicalize_name(pin.name): pin
    for pin in (Requirement(x) for x in read("constraints.txt").splitlines() if x and x[0] != "#")
}


def pinned_version(name: str) -> str:
    (specifier,) = PINS[canonicalize_name(name)].specifier
    assert specifier.operator == "=="
    return specifier.version


# --- requirements, pins, conda


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda r: r.name)
def test_every_requirement_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    assert requirement.specifier, "say which versions the code needs"
    assert requirement.specifier.contains(pinned_version(requirement.name), prereleases=True)


def test_pins_are_exact_sorted_and_name_each_package_once() -> None:
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    names = [canonicalize_name(Requirement(line).name) for line in lines]
    assert names == sorted(set(names))
    assert all(pinned_version(name) for name in names)


def required_by(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def test_everything_that_gets_installed_is_pinned() -> None:
    """Follow what is installed here requires; torch's CUDA parts alone are left to torch."""
    waiting = [(r.name, extra) for r in REQUIREMENTS for extra in ("", *r.extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        key = (canonicalize_name(name), extra)
        if key in seen or re.match("nvidia-|cuda-|triton$", key[0]):
            continue
        seen.add(key)
        try:
            found = importlib.metadata.distribution(name).requires or []
        except importlib.metadata.PackageNotFoundError:
            continue  # an extra that is not installed here
        wanted = [r for r in map(Requirement, found) if required_by(r, extra)]
        waiting += [(r.name, e) for r in wanted for e in ("", *r.extras)]
    assert len(seen) > 100
    assert {name for name, _ in seen} <= PINS.keys()


def test_conda_environment_is_python_and_the_project_with_its_extras() -> None:
    environment = yaml.safe_load(read("environment.yml"))
    *conda, pip = environment["dependencies"]
    specs = {str(MatchSpec(line, strict=True).name.normalized): line for line in conda}
    assert specs.keys() == {"python", "pip"}
    extras = re.search(r"^EXTRAS = (.+)$", read("Makefile"), re.M)
    assert extras and set(extras[1].split(",")) <= EXTRAS.keys()
    assert pip == {"pip": ["-c constraints.txt", f"-e .[{extras[1]}]"]}
    python = SpecifierSet(specs["python"].removeprefix("python "))
    for version in PYTHONS:
        assert (
            python.contains(f"{version}.0")
            and f"Programming Language :: Python :: {version}" in (PROJECT["classifiers"])
        )
        assert SpecifierSet(PROJECT["requires-python"]).contains(f"{version}.0")
    assert not python.contains("3.10.9") and not python.contains("3.14.0")


def test_no_torch_where_pip_would_choose_it_alone() -> None:
    build = tomllib.loads(read("pyproject.toml"))["build-system"]["requires"]
    assert not [line for line in build if "torch" in line]


# --- version, wheel, licences


def test_one_version_everywhere() -> None:
    (assigned,) = [
        node for node in ast.parse(read("lipbook/__init__.py")).body if isinstance(node, ast.Assign)
    ]
    version = ast.literal_eval(assigned.value)
    assert version == PROJECT["version"] == yaml.safe_load(read("CITATION.cff"))["version"]


def test_the_wheel_holds_lipbook_and_nothing_else(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("lipbook", "book", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    program = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "lipbook").rglob("*.py")}
    ours |= {"lipbook/py.typed", "lipbook/running/demo/demonstration.ipynb"}
    assert ours == {name for name in names if ".dist-info/" not in name}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_code_and_text_have_their_licences() -> None:
    assert read("LICENSE").startswith("MIT License\n\nCopyright (c)")
    assert read("LICENSE-text").startswith("Attribution 4.0 International")
    readme = read("README.md")
    assert "[MIT](LICENSE)" in readme and "[CC BY 4.0](LICENSE-text)" in readme
    for folder in filter(Path.is_dir, (ROOT / "book/_vendor").iterdir()):
        assert list(folder.glob("*LICENSE*")), f"{folder.name} has no licence beside it"


# --- files that other programs read


def schema_faults(schema: str, *paths: Path) -> str:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        schema,
        *map(str, paths),
    ]
    run = subprocess.run(command, capture_output=True, text=True)
    return "" if run.returncode == 0 else run.stdout + run.stderr


def test_workflows_and_citation_follow_their_schemas(tmp_path: Path) -> None:
    assert len(WORKFLOWS) == 3
    assert not schema_faults("vendor.github-workflows", *WORKFLOWS)
    assert not schema_faults("custom.github-workflows-require-timeout", *WORKFLOWS)
    assert not schema_faults("vendor.citation-file-format", ROOT / "CITATION.cff")
    wrong = tmp_path / "CITATION.cff"
    wrong.write_text(read("CITATION.cff").replace("authors:", "writers:"), encoding="utf-8")
    assert "authors" in schema_faults("vendor.citation-file-format", wrong)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_ask_for_little_and_pin_their_actions(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"} and workflow["concurrency"]
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@v\d+", name) for name in used)


def test_the_matrix_is_the_supported_pythons() -> None:
    matrix = yaml.safe_load(read(".github/workflows/test.yml"))["jobs"]["test"]["strategy"][
        "matrix"
    ]
    assert tuple(matrix["python"]) == PYTHONS
    assert matrix["os"] == ["ubuntu-latest", "macos-latest"]


def test_hooks_download_nothing() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (repo,) = yaml.safe_load(read(".pre-commit-config.yaml"))["repos"]
    assert repo["repo"] == "local"
    assert {hook["language"] for hook in repo["hooks"]} == {"system"}


def test_the_script_of_continuous_integration_is_sound() -> None:
    subprocess.run(["bash", "-n", ROOT / ".ci/run"], check=True)
    assert "set -euo pipefail" in read(".ci/run")
    targets = set(re.findall(r"make (?:--\S+ )?([a-z-]+)", read(".ci/run")))
    assert {"setup", "test", "test-rest"} <= targets


# --- README and CONTRIBUTING


def commands_in(name: str, program: str) -> set[str]:
    return set(re.findall(rf"(?:`|^|&& |/){program} ([a-z][a-z-]*)", read(name), re.M))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_commands_that_are_named_exist(name: str) -> None:
    from lipbook.cli import cli

    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    assert commands_in(name, "make") and commands_in(name, "make") <= targets
    assert commands_in(name, "lipbook") and commands_in(name, "lipbook") <= cli.commands.keys()


def test_readme_opens_with_the_three_commands() -> None:
    block = re.search(r"```sh\n(.*?)```", read("README.md"), re.S)
    assert block and block.start() < 60
    book, test, run = block[1].splitlines()
    assert book.startswith("make book") and test.startswith("make test")
    assert run.startswith(".venv/bin/lipbook run ")


def test_readme_runs_a_chapter_with_parameters_that_it_has() -> None:
    from lipbook.parameters import parse_cell, resolve

    line = re.search(r"^\.venv/bin/lipbook run (\S+)(.*)$", read("README.md"), re.M)
    assert line
    notebook = json.loads(read(f"notebooks/{line[1]}.ipynb"))
    (cell,) = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
    declared = {p.name: p for p in parse_cell("".join(cell["source"]))}
    given = dict(pair.split("=") for pair in re.findall(r"-p (\S+)", line[2]))
    values = {name: declared[name].parse(text) for name, text in given.items()}
    assert resolve(tuple(declared.values()), values).keys() == declared.keys()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_inside_the_project_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", read(name))
    assert all((ROOT / target).exists() for target in targets)


# --- what is tracked


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_large_file_is_tracked() -> None:
    assert {path.name for path in tracked() if path.stat().st_size > 2_000_000} == set()


# Pieced together, so that this file does not name them itself.
MACHINE_PATHS = r"(?<![\w.~)])/(?:work|tmp|root|home|Users)" + "/"
HOSTS = "|".join((r"pypi\.org/s" "imple", r"files\.python" "hosted", r"registry\.n" "pmjs"))
FORBIDDEN = re.compile(rf"{MACHINE_PATHS}|{HOSTS}|\bissues? #\d", re.I)


def test_nothing_tracked_names_a_machine() -> None:
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data and "_vendor" not in path.parts:
            text = data.decode("utf-8")
            found += [f"{path.relative_to(ROOT)}: {m[0]}" for m in FORBIDDEN.finditer(text)]
    assert found == []


def test_a_machine_path_would_be_seen() -> None:
    assert FORBIDDEN.search('File "/' + 'home/me/x.py"') and FORBIDDEN.search("/" + "tmp/x")
    assert not FORBIDDEN.search("docs/" + "home/page") and not FORBIDDEN.search(
        "https://arxiv.org/abs"
    )
