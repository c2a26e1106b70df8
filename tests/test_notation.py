"""The notation page and the claims page say what the code and the paper's abstract say."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from lipbook.activations import ACTIVATIONS
from lipbook.networks import INITIAL_SCALES
from lipbook.plotting.style import EXACT, LOWER, PROMISE, UPPER, Mark
from lipbook.schedules import SCHEDULES, make_schedule

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "book" / "notation.md").read_text(encoding="utf-8")
NAMES = re.compile(r"The names are those of `(lipbook[\w.]*)`:")


def rows(header: str) -> list[list[str]]:
    """Return the cells of the one table whose first line is `header`."""
    (table,) = (block for block in PAGE.split("\n\n") if block.startswith(header + "\n"))
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def by_name(header: str) -> dict[str, list[str]]:
    """Return a table as {its first cell without backticks: its other cells}."""
    return {first.strip("`"): rest for first, *rest in rows(header)}


def bare(cell: str) -> str:
    """Return a cell's TeX without dollars."""
    return cell.strip("$")


# --- names


def named_in_code() -> Iterator[tuple[str, str]]:
    """Yield each name of an *in code* column and what the sentence above its table names."""
    owner = ""
    for block in PAGE.split("\n\n"):
        found = NAMES.fullmatch(block)
        if found:
            owner = found[1]
        elif re.match(r"\| [a-z ]+ \| in code \|", block):
            assert owner, f"no sentence says whose names these are: {block[:60]}"
            for line in block.splitlines()[2:]:
                yield from ((owner, name) for name in re.findall(r"`(.*?)`", line.split("|")[2]))
            owner = ""


def find(path: str) -> Any:
    """Import what a dotted path names."""
    parts = path.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"nothing is called {path}")


def has(owner: Any, name: str) -> bool:
    """Tell whether a module, class or function has a member, field or argument of that name."""
    first, _, rest = name.partition(".")
    if rest:
        return has(getattr(owner, first), rest)
    if inspect.isfunction(owner):
        return name in inspect.signature(owner).parameters
    fields = dataclasses.fields(owner) if dataclasses.is_dataclass(owner) else ()
    return hasattr(owner, name) or name in {field.name for field in fields}


@pytest.mark.parametrize(("owner", "name"), list(named_in_code()))
def test_every_name_in_code_is_there(owner: str, name: str) -> None:
    assert has(find(owner), name), f"{owner} has no {name}"


def test_every_table_of_names_is_read() -> None:
    assert len({owner for owner, _ in named_in_code()}) == len(set(NAMES.findall(PAGE)))
    assert len(list(named_in_code())) > 50


def test_a_name_that_is_gone_is_seen() -> None:
    assert not has(find("lipbook.networks.Ensemble"), "hidden_weights")
    assert not has(find("lipbook.schedules.make_schedule"), "power")
    assert not has(find("lipbook.losses"), "Huber.threshold")


def test_no_letter_stands_for_two_names() -> None:
    letters = [
        (letter, line.split("|")[2].strip())
        for line in PAGE.splitlines()
        if line.startswith("| $") and "`" in line
        for letter in re.findall(r"\$([^$]+)\$", line.split("|")[1])
    ]
    meanings: dict[str, set[str]] = {}
    for letter, names in letters:
        meanings.setdefault(letter, set()).add(names)
    assert {letter for letter, names in meanings.items() if len(names) > 1} == set()


# --- activations

FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    r"\max(z, 0)": lambda z: np.maximum(z, 0),
    r"\max(z, 0.01\,z)": lambda z: np.maximum(z, 0.01 * z),
    r"\abs{z}": np.abs,
    r"\tanh z": np.tanh,
    "1/(1+e^{-z})": lambda z: 1 / (1 + np.exp(-z)),
    r"\ln(1+e^{z})": lambda z: np.log(1 + np.exp(z)),
    r"z\,\Phi(z)": lambda z: z * ndtr(z),
    "z/(1+e^{-z})": lambda z: z / (1 + np.exp(-z)),
}


def four_decimals(number: float | None) -> str:
    """Write a constant as the page does."""
    if number is None:
        return "none"
    return f"{number:.4f}".rstrip("0").rstrip(".").replace("-", "−")


def test_activations_are_those_of_the_code_with_their_formulas_and_slopes() -> None:
    table = by_name(r"| name | $\sigma(z)$ | $s_{\min}$ to $s_{\max}$ |")
    assert list(table) == list(ACTIVATIONS)
    z = np.linspace(-8, 8, 1001)
    for name, (formula, slopes) in table.items():
        activation = ACTIVATIONS[name]
        np.testing.assert_allclose(activation.value(z), FORMULAS[bare(formula)](z), atol=1e-12)
        assert slopes == " to ".join(map(four_decimals, activation.slope_range)), name


def test_constants_of_the_activations_are_those_of_the_code() -> None:
    table = by_name(r"| name | $L_\sigma$ | $\abs{\sigma(0)}$ | $L_{\sigma'}$ |")
    assert list(table) == list(ACTIVATIONS)
    for name, cells in table.items():
        activation = ACTIVATIONS[name]
        constants = (activation.lipschitz, activation.at_zero, activation.slope_lipschitz)
        assert cells == list(map(four_decimals, constants)), name
        assert activation.lipschitz == max(map(abs, activation.slope_range)), name


# --- schedules and starts


def eventual(t: np.ndarray) -> np.ndarray:
    return np.exp(-np.maximum(t - START, 0) / TAU)


STEPS, START, TAU, GAMMA = 60, 20, 7.0, 1.5
RATES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "1": np.ones_like,
    r"e^{-t/\tau}": lambda t: np.exp(-t / TAU),
    r"(1+t/\tau)^{-\gamma}": lambda t: (1 + t / TAU) ** -GAMMA,
    r"\tfrac12(1+\cos(\pi t/T))": lambda t: 0.5 * (1 + np.cos(math.pi * t / STEPS)),
    r"e^{-\max(t-T_0,\,0)/\tau}": eventual,
}


def test_schedules_are_those_of_the_code_with_their_formulas_and_sums() -> None:
    table = by_name(r"| schedule | $\alpha_t / \alpha$ | finite sum |")
    assert tuple(table) == SCHEDULES
    t = np.arange(STEPS, dtype=float)
    for name, (formula, summable) in table.items():
        plan = {"n_steps": STEPS, "timescale": TAU, "start": START}
        schedule = make_schedule(name, 0.3, exponent=GAMMA, **plan)
        np.testing.assert_allclose(schedule.rates(STEPS), 0.3 * RATES[bare(formula)](t), rtol=1e-12)
        assert math.isfinite(schedule.tail_mass(0)) == (summable != "no"), name
        slow = make_schedule(name, 0.3, exponent=1.0, **plan)
        assert math.isfinite(slow.tail_mass(0)) == (summable == "yes"), name


DEVIATIONS: dict[str, Callable[[int, int], float]] = {
    "0": lambda m, d: 0.0,
    "1": lambda m, d: 1.0,
    "1/m": lambda m, d: 1 / m,
    r"1/\sqrt{d}": lambda m, d: d**-0.5,
    r"1/\sqrt{m}": lambda m, d: m**-0.5,
    "m^{-1/4}": lambda m, d: m**-0.25,
    r"m^{-1/4}/\sqrt{d}": lambda m, d: m**-0.25 * d**-0.5,
}


def test_initial_scales_are_those_of_the_code() -> None:
    table = by_name("| scale | $W$ | $b$ | $A$ |")
    assert list(table) == list(INITIAL_SCALES)
    for name, cells in table.items():
        written = [DEVIATIONS[bare(cell)](50, 3) for cell in cells]
        assert written == pytest.approx(dataclasses.astuple(INITIAL_SCALES[name](50, 3))), name


# --- figures

SHAPES = {"^": "triangle up", "o": "dot", "v": "triangle down", "s": "square"}
MARKS: dict[str, tuple[Mark, str]] = {
    "lower bound": (LOWER, "dotted"),
    "exact": (EXACT, "solid"),
    "upper bound": (UPPER, "dashed"),
    "theorem's bound": (PROMISE, "dash-dot"),
}


def test_marks_are_those_of_the_figures() -> None:
    table = by_name("| kind | drawn | in words |")
    assert list(table) == [mark.label for mark, _ in MARKS.values()] == list(MARKS)
    for kind, (drawn, words) in table.items():
        mark, line = MARKS[kind]
        assert set(re.findall(r"#[0-9a-f]{6}", drawn)) == {mark.color}
        assert words.split(", ")[1:] == [SHAPES[str(mark.marker)], line]
        dashes = re.findall(r'stroke-dasharray="([^"]*)"', drawn)
        drawn_dashes = [float(dash) / 2 for dash in dashes[0].split()] if dashes else []
        assert drawn_dashes == list(mark.linestyle[1] if mark.linestyle != "-" else ()), kind


# --- claims


def test_claims_are_quoted_alike_on_every_page() -> None:
    claims = (ROOT / "book" / "claims.md").read_text(encoding="utf-8")
    quoted = [" ".join(q.replace("\n> ", " ").split()) for q in re.findall(r'> "([^"]+)"', claims)]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert quoted == re.findall(r'\*\*C\d\*\* "([^"]+)"', readme)
    assert len(quoted) == 6
