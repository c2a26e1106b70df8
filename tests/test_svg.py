"""Figures as SVG: the same bytes every time, and nothing that disturbs the page around them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest
from matplotlib.figure import Figure

from lipbook.plotting.svg import INK, figure_svg


def figure() -> Figure:
    """Return a figure with a line, markers, clipping, text and a legend, in ink."""
    fig = Figure(figsize=(3, 2))
    ax: Any = fig.subplots()
    ax.plot([0.123456, 1, 2], [3, 1, 2], "o-", color=INK, label="α < β")
    ax.set_xlabel("step $t$")
    ax.legend()
    return fig


def test_two_drawings_are_one() -> None:
    assert figure_svg(figure(), "ladder", "A line") == figure_svg(figure(), "ladder", "A line")


def test_it_is_one_labelled_element() -> None:
    svg = figure_svg(figure(), "ladder", 'A "line" < 3')
    root = ElementTree.fromstring(svg)
    assert svg.startswith("<svg ") and svg.endswith("</svg>")
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'A "line" < 3'
    assert "viewBox" in root.attrib and "width" not in root.attrib
    assert "max-width: 100%" in root.attrib["style"]
    for absent in ("<?xml", "DOCTYPE", "<!--", "metadata", "<style", "xlink", "dc:date"):
        assert absent not in svg


def test_ink_becomes_the_colour_of_the_text_around() -> None:
    svg = figure_svg(figure(), "ladder", "A line")
    assert INK not in svg and "currentColor" in svg


def test_the_page_s_background_shows_through() -> None:
    root = ElementTree.fromstring(figure_svg(figure(), "ladder", "A line"))
    patch = next(element for element in root.iter() if element.get("id", "").endswith("patch_1"))
    assert "fill: none" in patch[0].attrib["style"]


def test_ids_belong_to_the_figure_and_every_reference_is_met() -> None:
    svg = figure_svg(figure(), "ladder", "A line")
    ids = re.findall(r'\bid="([^"]+)"', svg)
    used = re.findall(r'href="#([^"]+)"', svg) + re.findall(r"url\(#([^)]+)\)", svg)
    assert used and set(used) <= set(ids) and len(set(ids)) == len(ids)
    assert all(each.startswith("fig-ladder-") for each in ids)
    other = figure_svg(figure(), "other", "A line")
    assert not set(ids) & set(re.findall(r'\bid="([^"]+)"', other))


def test_coordinates_are_rounded() -> None:
    svg = figure_svg(figure(), "ladder", "A line")
    paths = re.findall(r'\bd="([^"]*)"', svg)
    assert paths and not any(re.search(r"\.\d{3,}", path) for path in paths)


def test_text_stays_text() -> None:
    assert "α &lt; β" in figure_svg(figure(), "ladder", "A line")


def test_without_alt_it_is_decoration() -> None:
    assert 'aria-hidden="true"' in figure_svg(figure(), "ladder")


def test_a_name_that_is_no_id_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`name` must be letters, digits and hyphens. Got 'a b'"):
        figure_svg(figure(), "a b")
