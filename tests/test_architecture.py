"""How the code is laid out: one import direction, light modules, short files and functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "lipbook"
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [
    *MODULES,
    *sorted((ROOT / "tests").rglob("*.py")),
    *sorted((ROOT / "book").rglob("*.py")),
]

# A part may import from parts of its own line and of the lines above.
LAYERS = (
    (
        "__init__",
        "benchmark_results",
        "medians",
        "parameters",
        "records",
        "wording",
        "provenance",
        "plotting",
    ),
    (
        "activations",
        "data",
        "deep_networks",
        "descent_plan",
        "gradients",
        "implicit_rates",
        "losses",
        "networks",
        "rate_caps",
        "rescaling",
        "schedules",
    ),
    ("deep_training", "descent_loop", "kernels", "training"),
    ("caps", "lipschitz", "network_files", "theorems", "generalization"),
    ("certify", "comparison", "experiments", "notebook", "running", "sensitivity", "torch_tools"),
    ("cli", "__main__"),
)
RANK = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

HEAVY = {
    "IPython", "jupyter_client", "matplotlib", "nbclient", "nbformat", "numpy", "pandas",
    "papermill", "scipy", "seaborn", "sklearn", "sphinx", "statsmodels", "torch",
}  # fmt: skip

LONGEST_FILE = 340  # the aim is 300
LONGEST_FUNCTION = 40  # the aim is 30, docstring not counted


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def part_of(module: str) -> str:
    """The part of the package that a module belongs to: `lipbook.running.check` → running."""
    return [*module.split("."), "__init__"][1]


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Every absolute module name that is imported anywhere below `tree`, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports name the module in full"
            if node.module == "lipbook":
                yield from (f"lipbook.{alias.name}" for alias in node.names)
            else:
                yield node.module


def functions_of(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def wrong_imports(part: str, imported: list[str]) -> list[str]:
    """Those imports that go against the direction of LAYERS."""
    ours = [name for name in imported if name.split(".")[0] == "lipbook"]
    return [
        name
        for name in ours
        if name not in ("lipbook.__version__", "lipbook")
        and RANK.get(part_of(name), len(LAYERS)) > RANK[part]
    ]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert part in RANK, f"give `{part}` its place in LAYERS"
    imported = list(imports_of(ast.parse(path.read_text(encoding="utf-8"))))
    assert not wrong_imports(part, imported)
    assert not [name for name in imported if name.split(".")[0] in ("notebooks", "tests", "book")]
    if part == "plotting":
        assert "torch" not in {name.split(".")[0] for name in imported}


def test_a_wrong_direction_is_seen() -> None:
    tree = ast.parse("def f():\n    from lipbook import cli\n    import lipbook.training\n")
    assert wrong_imports("losses", list(imports_of(tree))) == ["lipbook.cli", "lipbook.training"]
    assert wrong_imports("cli", list(imports_of(tree))) == []


@pytest.mark.parametrize(
    "module", ["lipbook", "lipbook.parameters", "lipbook.records", "lipbook.wording", "lipbook.cli"]
)
def test_light_modules_load_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print(*sorted(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not HEAVY & {name.split(".")[0] for name in run.stdout.split()}


@pytest.mark.parametrize("module", ["parameters", "records"])
def test_grammar_and_records_need_the_standard_library_alone(module: str) -> None:
    imported = imports_of(ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8")))
    outside = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside <= {"lipbook"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for function in functions_of(ast.parse(text)):
        lines = (function.end_lineno or 0) - function.lineno + 1
        if ast.get_docstring(function) is not None:
            docstring = function.body[0]
            lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
        assert lines <= LONGEST_FUNCTION, f"{function.name} has {lines} lines"


def undocumented(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
    """Public classes, functions and methods without a docstring."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, f"{node.name}.")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_everything_public_is_documented(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, "the module has no docstring"
    assert list(undocumented(tree.body)) == []
