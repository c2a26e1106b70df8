// MathML Core has no column attributes: every cell carries its alignment, padding and rules.
"use strict";

const STRUT = 0.12; // em above and below a row, so that rows of low letters keep their distance
const UNITS = { pt: 0.1, ex: 0.45, mu: 1 / 18 }; // in em

function length(value) {
  const unit = String(value).replace(/^[-\d.]+/, "");
  return (parseFloat(value) || 0) * (UNITS[unit] ?? 1);
}

// A function (row, column) -> style, for one table of MathJax's tree.
function cellStyles(table) {
  const list = (name, fallback) => String(table.attributes.get(name) ?? fallback).split(/\s+/);
  const at = (values, k) => values[Math.min(k, values.length - 1)];
  const align = list("columnalign", "center");
  const gaps = list("columnspacing", "0.8em");
  const rises = list("rowspacing", "1ex");
  const lines = list("columnlines", "none");
  const rules = list("rowlines", "none");
  const em = (x) => (x ? `${+x.toFixed(3)}em` : "0");
  const rows = table.childNodes.length;
  return (i, j, columns) => {
    const top = STRUT + (i > 0 ? length(at(rises, i - 1)) / 2 : 0);
    const bottom = STRUT + (i < rows - 1 ? length(at(rises, i)) / 2 : 0);
    const left = j > 0 ? length(at(gaps, j - 1)) / 2 : 0;
    const right = j < columns - 1 ? length(at(gaps, j)) / 2 : 0;
    let style = `padding:${em(top)} ${em(right)} ${em(bottom)} ${em(left)}`;
    if (at(align, j) !== "center") style += `;text-align:${at(align, j)}`;
    if (j > 0 && at(lines, j - 1) !== "none") style += ";border-left:.06em solid";
    if (i > 0 && at(rules, i - 1) !== "none") style += ";border-top:.06em solid";
    return style;
  };
}

module.exports = { cellStyles };
