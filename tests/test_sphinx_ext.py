"""The parts of the book's Sphinx extension, each by itself."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from docutils import nodes
from fontTools.ttLib import TTFont
from lipbook_sphinx import figures, icons, mathfont, mathml, parametertable, recordrole, repairs
from lipbook_sphinx.rawtex import raw_tex
from lipbook_sphinx.typesetting import (
    Formula,
    Typesetter,
    TypesettingError,
    find_mathjax,
    packaged_file,
)

from lipbook.parameters import parse_cell

MACROS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["sphinx"]["config"][
    "lipbook_tex_macros"
]

# TeX, whether it is displayed, and what must be in its MathML.
CASES = [
    (r"\Lip(f)", False, "<mi>Lip</mi>"),
    (r"\R^m", False, "<msup><mi>ℝ</mi><mi>m</mi></msup>"),
    (r"\mathcal{N}", False, "<mi>𝒩</mi>"),
    (r"\mathbf{W}\boldsymbol{\theta}", False, "<mi>𝐖</mi><mi>𝜽</mi>"),
    (r"\mathbf{1}", False, "<mn>𝟏</mn>"),
    (r"\mathbb{E}\mathfrak{g}\mathcal{L}", False, "<mi>𝔼</mi><mi>𝔤</mi><mi>ℒ</mi>"),
    (r"\Gamma", False, '<mi mathvariant="normal">Γ</mi>'),
    (r"x", True, '<math display="block"><mi>x</mi></math>'),
    # A minus sign before a letter is no difference, and has no space after it.
    (r"(-x)", False, '<mo lspace="0" rspace="0">−</mo>'),
    (r"a - x + y", False, "<mi>a</mi><mo>−</mo><mi>x</mi><mo>+</mo>"),
    (r"\log n", False, '<mo lspace="0" rspace="0.1667em">\u2061</mo><mi>n</mi>'),
    (
        r"a\max_j b",
        True,
        '<munder><mo movablelimits="true" lspace="0.1667em" rspace="0.1667em">max</mo>',
    ),
    (r"\hat b", False, '<mover accent="true"><mi>b</mi>'),
    (r"\norm{x}", False, 'stretchy="false" lspace="0" rspace="0">‖</mo><mi>x</mi>'),
    (r"\norm{\frac12}", True, '<mo symmetric="true" lspace="0" rspace="0">‖</mo><mfrac>'),
    (r"\bigl(x\bigr)^2", False, '<msup><mrow><mo minsize="1.2em" maxsize="1.2em">)</mo></mrow>'),
    (r"\begin{cases} 1 & \text{if }x\\ 0\end{cases}", True, "text-align:left"),
    (r"\begin{array}{c|c} 1 & 2\\ \hline 3 & 4\end{array}", True, "border-left:.06em solid"),
    (r"\begin{aligned} a &= b\\ &= c\end{aligned}", True, "text-align:right"),
    (r"\frac{a}{}", False, "<mfrac><mi>a</mi><mrow></mrow></mfrac>"),
    (r"\sqrt[3]{x}", False, "<mroot><mi>x</mi><mn>3</mn></mroot>"),
    (r"a \quad b", False, '<mspace width="1em"></mspace>'),
    (r"a<b \& c", False, "<mo>&lt;</mo>"),
    (r"\sum_{t<T}\alpha_t", True, "<munder><mo"),
    (r"f'", False, "′</mo></msup>"),
]


@pytest.fixture(scope="module")
def typesetter(tmp_path_factory: pytest.TempPathFactory) -> Typesetter:
    setter = Typesetter(MACROS, tmp_path_factory.mktemp("typeset") / "mathml.json")
    setter.typeset(Formula(tex, display) for tex, display, _ in CASES)
    return setter


@pytest.mark.parametrize(("tex", "display", "expected"), CASES)
def test_mathml_of(typesetter: Typesetter, tex: str, display: bool, expected: str) -> None:
    [answer] = typesetter.typeset([Formula(tex, display)])
    assert answer.error == ""
    assert expected in answer.mathml
    assert "mjx" not in answer.mathml and "data-" not in answer.mathml


def test_all_formulas_take_one_process(typesetter: Typesetter) -> None:
    assert typesetter.processes == 1


def test_another_build_takes_no_process(typesetter: Typesetter) -> None:
    again = Typesetter(MACROS, typesetter.cache)
    formulas = [Formula(tex, display) for tex, display, _ in CASES]
    assert again.typeset(formulas) == typesetter.typeset(formulas)
    assert again.processes == 0


def test_another_macro_sets_everything_anew(tmp_path: Path) -> None:
    for name in ("one", "other"):
        setter = Typesetter({"Lip": rf"\operatorname{{{name}}}"}, tmp_path / "mathml.json")
        assert f"<mi>{name}</mi>" in setter.typeset([Formula(r"\Lip", False)])[0].mathml


def test_half_a_cache_is_no_cache(tmp_path: Path) -> None:
    cache = tmp_path / "mathml.json"
    cache.write_text('{"salt": "x", "formu', encoding="utf-8")
    [answer] = Typesetter({}, cache).typeset([Formula("x", False)])
    assert answer.mathml == "<math><mi>x</mi></math>"
    assert json.loads(cache.read_text(encoding="utf-8"))["formulas"]


@pytest.mark.parametrize(
    ("tex", "message"),
    [
        (r"\frac{1}", r"Missing argument for \frac"),
        (r"\nosuch", r"Undefined control sequence \nosuch"),
        (r"{", "Extra open brace or missing close brace"),
        (r"\begin{equation} x \tag{7} \end{equation}", "label the equation instead"),
    ],
)
def test_faulty_tex_is_an_error(typesetter: Typesetter, tex: str, message: str) -> None:
    [answer] = typesetter.typeset([Formula(tex, True)])
    assert message in answer.error and answer.mathml == ""


def test_a_long_inline_formula_may_break_after_a_relation(typesetter: Typesetter) -> None:
    tex = r"\Lip(f) \le \sum_{j=1}^m |a_j|\,\norm{w_j} \le \norm{a}\,\norm{W}_F"
    [long] = typesetter.typeset([Formula(tex, False)])
    first, second, third = long.mathml.split("<wbr>")
    assert first.endswith('rspace="0.2778em">≤</mo></math>')
    assert second.startswith('<math><munderover><mo lspace="0"')
    assert third.startswith("<math>")
    [displayed] = typesetter.typeset([Formula(tex, True)])
    assert "<wbr>" not in displayed.mathml


def test_a_short_fence_is_not_broken(typesetter: Typesetter) -> None:
    tex = r"f(a = b, c = d) = g(a, b, c) = h(x, y, z)"
    [answer] = typesetter.typeset([Formula(tex, False)])
    assert [part.count("<mo stretchy") for part in answer.mathml.split("<wbr>")] == [2, 2, 2]


def test_a_long_fence_is_broken_at_a_comma(typesetter: Typesetter) -> None:
    tex = r"N = \max\Bigl(\sum_j \max(s\,v_j, S\,v_j),\ -\sum_j \min(s\,v_j, S\,v_j)\Bigr)"
    [answer] = typesetter.typeset([Formula(tex, False)])
    assert len(answer.mathml.split("<wbr>")) > 2
    assert answer.mathml.count("<math>") == answer.mathml.count("</math>")


def test_font_has_what_the_formulas_need(typesetter: Typesetter) -> None:
    answers = typesetter.typeset([Formula(tex, display) for tex, display, _ in CASES])
    characters = "".join(sorted(set("".join(answer.characters for answer in answers))))
    font = TTFont(io.BytesIO(mathfont.cut(characters)))
    assert set(map(ord, characters)) <= set(font.getBestCmap())
    # Single letters are slanted by the browser, which takes another character for it.
    assert "𝑥" in characters and "ℝ" in characters and "√" in characters
    variants = font["MATH"].table.MathVariants.VertGlyphCoverage.glyphs
    assert font.getBestCmap()[ord("(")] in variants
    assert len(mathfont.cut("x")) < len(mathfont.cut(characters)) < 60_000


def test_root_signs_of_all_sizes_are_equally_wide() -> None:
    font = TTFont(io.BytesIO(mathfont.cut("√x")))
    signs = font["MATH"].table.MathVariants
    root = font.getBestCmap()[ord("√")]
    sizes = signs.VertGlyphConstruction[signs.VertGlyphCoverage.glyphs.index(root)]
    names = [record.VariantGlyph for record in sizes.MathGlyphVariantRecord]
    assert len(names) > 2
    assert len({font["hmtx"][name][0] for name in names}) == 1


def test_missing_package_names_the_remedy() -> None:
    with pytest.raises(TypesettingError, match=r"no-such-package must be installed.*Try again"):
        packaged_file("no-such-package", "file.js", "Try again.")
    assert (find_mathjax() / "node-main.js").is_file()


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        ("a = b", "a = b"),
        (r"a \\ b", r"\begin{split}a \\ b\end{split}"),
        (r"\begin{cases} a \\ b\end{cases}", r"\begin{cases} a \\ b\end{cases}"),
        (r"\substack{a \\ b}", r"\substack{a \\ b}"),
        ("a\n\nb", r"\begin{gathered}a \\ b\end{gathered}"),
    ],
)
def test_rows_of_a_displayed_formula(tex: str, expected: str) -> None:
    assert mathml.formula_of(nodes.math_block("", tex)).tex == expected


@pytest.mark.parametrize(
    "html",
    ["<p>costs $3</p>", r"<p>\(x\)</p>", r"<td>\begin{x}</td>", '<img alt="of $x$">', r"\frac"],
)
def test_raw_tex_is_seen(html: str) -> None:
    assert raw_tex(html)


@pytest.mark.parametrize(
    "html",
    [
        "<pre>$ ls</pre>",
        r"<p><code>\frac</code> and <kbd>$</kbd></p>",
        "<math><mtext>$</mtext></math>",
        "<script>let a = `${b}`;</script>",
        "<p>a / b \\ c</p>",
    ],
)
def test_code_and_formulas_are_no_raw_tex(html: str) -> None:
    assert raw_tex(html) == []


def test_svg_gets_its_description() -> None:
    svg = '<svg viewBox="0 0 1 1" role="x" aria-label="old" aria-hidden="true"><path/></svg>'
    labelled = figures.labelled(svg, 'a "b" & c')
    assert labelled == (
        '<svg viewBox="0 0 1 1" role="img" aria-label="a &quot;b&quot; &amp; c"><path/></svg>'
    )
    assert figures.labelled("no picture", "a") == ""


def test_svg_keeps_only_the_ids_it_uses() -> None:
    svg = '<g id="a"/><path id="b"/><use href="#b"/><g clip-path="url(#c)"/><clipPath id="c"/>'
    assert figures.without_idle_ids(svg) == svg.replace(' id="a"', "")


CELL = """# Parameters of this chapter
width: int = 64  # hidden neurons; 1..4096
activation: str = "leaky relu"  # activation function; relu | leaky relu
rate: float = 1e-3  # learning rate; 0..
seeds: list[int] = [0, 1]  # seeds; ..9
log: bool = True  # logarithmic axis
"""


def test_parameters_become_a_table() -> None:
    parameters = parse_cell(CELL)
    assert [parametertable.allowed(each) for each in parameters] == [
        "1 to 4096",
        "relu, leaky relu",
        "at least 0",
        "at most 9",
        "true, false",
    ]
    text = parametertable.table(parameters, None).astext()
    assert "hidden neurons" in text and "This run" not in text
    values = {each.name: each.default for each in parameters} | {"width": 8}
    assert "This run" in parametertable.table(parameters, values).astext()


def test_command_can_be_pasted_into_a_shell() -> None:
    values = {each.name: each.default for each in parse_cell(CELL)}
    command = parametertable.command("toy", values)
    assert command.splitlines() == [
        "lipbook run toy -p width=64 -p activation='leaky relu' -p rate=0.001 \\",
        "   -p seeds='[0, 1]' -p log=true",
    ]


def test_values_of_a_rerun_are_read() -> None:
    assert parametertable.injected_values('# Parameters\nwidth = 8\nname = "a b"\nl = [1]\n') == {
        "width": 8,
        "name": "a b",
        "l": [1],
    }


@pytest.fixture
def record(tmp_path: Path) -> Path:
    entry = {"value": 7.7512, "rtol": 1e-6, "atol": 0.0, "unit": "", "meaning": "m"}
    result = {
        "chapter": "toy",
        "parameters": {"width": 64},
        "values": {"bound": entry, "open": {**entry, "value": "inf"}},
        "verdicts": {"path": {"bound": 2.5, "applies": True}},
        "figures": {},
        "modules": [],
        "digest": None,
    }
    whole = {"schema": 1, "result": result, "provenance": {}}
    (tmp_path / "toy.json").write_text(json.dumps(whole), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("toy:bound", "7.75"),
        ("toy:bound|2", "7.8"),
        ("toy : bound | 4", "7.751"),
        ("toy:open", "∞"),
        ("toy:path.bound", "2.5"),
        ("toy:path.applies", "yes"),
        ("toy:parameters.width", "64"),
    ],
)
def test_record_role_prints(record: Path, text: str, expected: str) -> None:
    assert recordrole.look_up(record, text)[0] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("toy", "must read chapter:name"),
        ("toy:bound|x", "must read chapter:name"),
        ("joy:bound", "there is no record joy.json. Did you mean `toy`"),
        ("toy:bund", "has no 'bund'. Did you mean `bound`"),
    ],
)
def test_record_role_refuses(record: Path, text: str, message: str) -> None:
    with pytest.raises(recordrole.RecordError, match=re.escape(message)):
        recordrole.look_up(record, text)


def test_icons_are_drawn() -> None:
    html = icons.draw(
        '<i class="theme-switch fa-solid fa-sun fa-lg" data-mode="light" title="L"></i>'
    )
    assert html.startswith('<svg class="theme-switch icon" data-mode="light" viewBox="0 0 512 512"')
    assert 'aria-hidden="true"><path d="M' in html
    with pytest.raises(KeyError, match="no-such-icon"):
        icons.draw('<span class="fas fa-no-such-icon"></span>')


def test_punctuation_stays_with_its_formula() -> None:
    html = repairs.glue_punctuation("see (<math><mi>x</mi></math>), or <math><mi>y</mi></math> is")
    assert html == (
        'see <span class="glued">(<math><mi>x</mi></math>),</span> or <math><mi>y</mi></math> is'
    )


def test_a_header_that_is_a_formula_has_a_name() -> None:
    html = '<tr><th class="head"><p><math><mi>σ</mi><mo>(</mo></math></p></th><th>x</th></tr>'
    named = repairs.name_headers(html)
    assert named.startswith('<tr><th class="head"><p><math aria-label="σ(">')
    assert named.endswith("</th><th>x</th></tr>")


def test_scripts_wait_and_serve() -> None:
    head = '<head><script src="_static/copybutton.js?v=1"></script><script src="a.js"></script>'
    deferred = repairs.defer_scripts(head + "</head><body>no code</body>")
    assert "copybutton" not in deferred
    assert '<script defer src="a.js"></script>' in deferred
    kept = repairs.defer_scripts(head + '</head><body><div class="highlight"></div></body>')
    assert '<script defer src="_static/copybutton.js?v=1"></script>' in kept
