"""The grammar of parameters cells: what is read, what is refused, and in which words."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipbook.parameters import (
    FIRST_LINE,
    Parameter,
    ParameterError,
    parse_cell,
    resolve,
    shown,
)

CELL = f"""{FIRST_LINE}
width: int = 64  # hidden neurons; 1..4096
learning_rate: float = 0.1  # step size α; 1e-6..10

# a comment of its own
use_bias: bool = True  # train the biases; the output bias too
activation: str = "leaky relu"  # activation σ; relu | leaky relu | tanh
widths: list[int] = [8, 16]  # hidden neurons of each network; 1..
shifts: list[float] = [-1, 0.5]  # translations; ..2.5
names: list[str] = ["a#b", "c"]  # labels; a#b | c
order: int = 2  # order of the norm; 1 | 2
"""


def one(declaration: str) -> Parameter:
    """Return the parameter that a single line declares."""
    return parse_cell(f"{FIRST_LINE}\n{declaration}")[0]


def test_every_type_is_read() -> None:
    by_name = {parameter.name: parameter for parameter in parse_cell(CELL)}
    assert list(by_name) == [
        "width", "learning_rate", "use_bias", "activation", "widths", "shifts", "names", "order",
    ]  # fmt: skip
    width = by_name["width"]
    assert width == Parameter("width", "int", 64, 1, 4096, None, "hidden neurons")
    assert by_name["use_bias"].help == "train the biases; the output bias too"
    assert by_name["activation"].choices == ("relu", "leaky relu", "tanh")
    assert (by_name["widths"].minimum, by_name["widths"].maximum) == (1, None)
    assert by_name["shifts"].default == [-1.0, 0.5]
    assert all(isinstance(value, float) for value in by_name["shifts"].default)
    assert by_name["names"].choices == ("a#b", "c")
    assert by_name["order"].choices == (1, 2)


def test_parameters_are_json() -> None:
    rows = json.loads(json.dumps([parameter.to_dict() for parameter in parse_cell(CELL)]))
    assert list(rows[0]) == ["name", "type", "default", "minimum", "maximum", "choices", "help"]
    assert rows[3]["choices"] == ["relu", "leaky relu", "tanh"]


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ("width = 64  # hidden neurons; 1..9", "`line 2` must read `name: type = default"),
        ("width: int  # hidden neurons; 1..9", "`line 2` must read"),
        ("width: int = f(3)  # hidden neurons; 1..9", "`line 2` must read"),
        ("width: int = 3; print(1)  # hidden neurons; 1..9", "`line 2` must read"),
        ("x.y: int = 3  # hidden neurons; 1..9", "`line 2` must read"),
        ("width: int = (3  # hidden neurons; 1..9", "`line 2` must read"),
        ("print('hello')", "`line 2` must read"),
        ("_width: int = 3  # hidden neurons; 1..9", "`name` on line 2 must be a plain identifier"),
        ("größe: int = 3  # hidden neurons; 1..9", "`name` on line 2 must be a plain identifier"),
        ("width: complex = 3  # hidden neurons; 1..9", "must have one of the types int, float"),
        ("width: int = 3", "`width` must have a meaning and a constraint"),
        ("width: int = 3  # hidden neurons", "`width` must have a meaning and a constraint"),
        ("width: int = 3  # ; 1..9", "`width` must have a meaning and a constraint"),
        ("flag: bool = True", "`flag` must have a meaning"),
        ("width: int = 3  # hidden neurons; many", "`width` must have a range of int numbers"),
        ("width: int = 3  # hidden neurons; ..", "`width` must have a range of int numbers"),
        ("width: int = 3  # hidden neurons; 1..9.5", "`width` must have a range of int numbers"),
        ("rate: float = 3  # rate; 1..inf", "`rate` must have a range of float numbers"),
        ("width: int = 3  # hidden neurons; 9..1", "`width` must have a range with LOW ≤ HIGH"),
        ("width: int = 30  # hidden neurons; 1..9", "`width` must be an int in 1..9. Got 30."),
        ("kind: str = 'a'  # kind; a | a", "`kind` must have distinct str choices"),
        ("kind: str = 'a'  # kind; a | ", "`kind` must have distinct str choices"),
        ("kind: str = 'c'  # kind; a | b", "`kind` must be one of a | b. Got 'c'."),
        ("order: int = 1  # order; 1 | x", "`order` must have distinct int choices"),
        ("widths: list[int] = []  # widths; 1..9", "must be a nonempty list, each element an int"),
        ("flag: bool = 1  # flag", "`flag` must be true or false. Got 1."),
    ],
)
def test_a_bad_declaration_is_refused(declaration: str, message: str) -> None:
    with pytest.raises(ParameterError) as refusal:
        one(declaration)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_cell_needs_its_first_line() -> None:
    with pytest.raises(ParameterError, match="`first line` of a parameters cell must be"):
        parse_cell("width: int = 3  # hidden neurons; 1..9")
    with pytest.raises(ParameterError, match="Got an empty cell"):
        parse_cell("")


def test_a_name_is_declared_once() -> None:
    line = "width: int = 3  # hidden neurons; 1..9\n"
    with pytest.raises(ParameterError, match=r"`width` must be declared once. Got it again on"):
        parse_cell(f"{FIRST_LINE}\n{line}{line}")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("width", "128", 128),
        ("width", "1_000", 1000),
        ("learning_rate", "1e-3", 1e-3),
        ("learning_rate", "1", 1.0),
        ("use_bias", "false", False),
        ("use_bias", "True", True),
        ("activation", "leaky relu", "leaky relu"),
        ("widths", "[1, 2]", [1, 2]),
        ("shifts", '[1, "1e-3"]', [1.0, 1e-3]),
        ("names", '["c"]', ["c"]),
        ("order", "1", 1),
    ],
)
def test_command_line_text_is_read(name: str, text: str, value: object) -> None:
    parameter = {p.name: p for p in parse_cell(CELL)}[name]
    assert parameter.parse(text) == value
    assert type(parameter.parse(text)) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("width", "0", "`width` must be an int in 1..4096. Got '0'."),
        ("width", "4097", "Got '4097'."),
        ("width", "6.5", "`width` must be an int"),
        ("width", "1e3", "`width` must be an int"),
        ("width", "true", "`width` must be an int"),
        ("width", "", "`width` must be an int"),
        ("width", "1__0", "`width` must be an int"),
        ("width", "٣", "`width` must be an int"),
        ("width", "9" * 5000, "…."),
        ("width", "__import__('os').system('true')", "`width` must be an int"),
        ("width", "3\nimport os", "Got '3\\nimport os'"),
        ("learning_rate", "nan", "`learning_rate` must be a float in 1e-06..10. Got 'nan'."),
        ("learning_rate", "inf", "`learning_rate` must be a float"),
        ("learning_rate", "1e999", "`learning_rate` must be a float"),
        ("learning_rate", "0x1", "`learning_rate` must be a float"),
        ("use_bias", "1", "`use_bias` must be true or false. Got '1'."),
        ("activation", "ReLU", "`activation` must be one of relu | leaky relu | tanh. Got 'ReLU'."),
        ("activation", 'relu"; import os', "`activation` must be one of"),
        ("activation", "relu\0", "Got 'relu\\x00'"),
        ("widths", "[]", "`widths` must be a nonempty list, each element an int in 1..."),
        ("widths", "8,16", "written as JSON. Got '8,16'."),
        ("widths", "[true]", "`widths` must be a nonempty list"),
        ("widths", '{"a": 1}', "`widths` must be a nonempty list"),
        ("widths", "[" * 100_000, "written as JSON"),
        ("shifts", "[NaN]", "`shifts` must be a nonempty list, each element a float in ..2.5"),
        ("shifts", "[3]", "`shifts` must be a nonempty list"),
    ],
)
def test_bad_text_is_refused_in_one_short_line(name: str, text: str, message: str) -> None:
    parameter = {p.name: p for p in parse_cell(CELL)}[name]
    with pytest.raises(ParameterError) as refusal:
        parameter.parse(text)
    assert message in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", True),
        ("width", 3.0),
        ("width", None),
        ("width", [3]),
        ("learning_rate", True),
        ("learning_rate", math.nan),
        ("learning_rate", -math.inf),
        ("learning_rate", 10**400),
        ("use_bias", 0),
        ("use_bias", "true"),
        ("activation", 3),
        ("widths", "12"),
        ("widths", {"a": 1}),
        ("widths", [[1]]),
        ("names", ["a"]),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: object) -> None:
    parameter = {p.name: p for p in parse_cell(CELL)}[name]
    with pytest.raises(ParameterError, match=f"`{name}` must be .* Got "):
        parameter.validate(value)


def test_yaml_spellings_of_a_number_are_numbers() -> None:
    by_name = {parameter.name: parameter for parameter in parse_cell(CELL)}
    assert by_name["learning_rate"].validate("1e-3") == 1e-3
    assert by_name["learning_rate"].validate(1) == 1.0
    assert type(by_name["learning_rate"].validate(1)) is float
    assert by_name["width"].validate("64") == 64


def test_resolve_fills_defaults_and_keeps_the_order() -> None:
    values = resolve(parse_cell(CELL), {"order": 1, "width": 3})
    assert next(iter(values)) == "width" and values["width"] == 3
    assert values["order"] == 1 and values["activation"] == "leaky relu"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("witdh", "Did you mean `width` or `widths`?"),
        ("zzz", "Got 'zzz'."),
        ("width=3\nimport os", "Got 'width=3\\nimport os'."),
        (7, "Got 7."),
        (None, "Got None."),
    ],
)
def test_resolve_knows_only_declared_names(name: object, hint: str) -> None:
    with pytest.raises(ParameterError) as refusal:
        resolve(parse_cell(CELL), {name: 1})
    assert "`parameter` must be one of width, learning_rate" in str(refusal.value)
    assert hint in str(refusal.value)


def test_resolve_without_parameters_says_so() -> None:
    with pytest.raises(ParameterError, match="`parameter` must be left out: there are none"):
        resolve((), {"width": 3})


@given(st.integers(-50, 50), st.integers(0, 40), st.integers(-200, 200))
def test_a_range_is_inclusive_at_both_ends(low: int, span: int, value: int) -> None:
    parameter = one(f"x: int = {low}  # a number; {low}..{low + span}")
    if low <= value <= low + span:
        assert parameter.parse(str(value)) == value
    else:
        with pytest.raises(ParameterError):
            parameter.parse(str(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_the_command_line(value: float) -> None:
    parameter = one("x: float = 0.0  # a number; -1.7976931348623157e308..1.7976931348623157e308")
    assert parameter.parse(repr(value)) == value


@given(st.text())
def test_any_text_is_refused_or_read_never_crashes(text: str) -> None:
    for parameter in parse_cell(CELL):
        try:
            parameter.parse(text)
        except ParameterError as refusal:
            assert str(refusal).isprintable()


@given(st.text(max_size=200))
def test_any_cell_is_refused_or_read_never_crashes(text: str) -> None:
    try:
        parse_cell(f"{FIRST_LINE}\n{text}")
    except ParameterError as refusal:
        assert "must" in str(refusal)


def test_shown_is_one_short_line() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 1000)) == 60
