// Small questions about the nodes of MathJax's tree.
"use strict";

const TEX_CLASS = { BIN: 2, REL: 3, OPEN: 4, CLOSE: 5 };
const TALL = ["mfrac", "mtable", "msqrt", "mroot", "munderover"];

const text = (node) => node.childNodes.map((child) => child.text ?? "").join("");
const isRow = (node) => node.isKind("inferredMrow") || node.isKind("mrow");

// Empty identifiers and fences carry only TeX's spacing, which is written out anyway.
const isNothing = (node) => (node.isKind("mi") || node.isKind("mo")) && text(node) === "";

const kids = (node) => node.childNodes.filter((child) => child && !isNothing(child));

// The operator at the heart of a node that MathML counts as an operator, else null.
function operator(node) {
  if (!node.isEmbellished || node.isKind("inferredMrow")) return null;
  return node.coreMO();
}

// Whether the scripts over and under a node are accents, as attributes of mover and munder.
function accents(node) {
  const isAccent = (child) => {
    const mo = child?.isEmbellished && child.coreMO();
    // An arrow is no accent to Core: as a script it has the size that an accent needs.
    return Boolean(mo && text(mo) !== "→"
      && (mo.getProperty("mathaccent") || mo.attributes.get("accent")));
  };
  const over = node.isKind("mover") ? node.childNodes[1] : node.childNodes[2];
  const under = node.isKind("mover") ? null : node.childNodes[1];
  return { ...(isAccent(over) && { accent: true }), ...(isAccent(under) && { accentunder: true }) };
}

// TeX's delimiters may fall short of letters with scripts; Core's cover them and look too big.
function hugsLowContent(mo) {
  const row = mo.parent;
  if (mo.texClass !== TEX_CLASS.OPEN && mo.texClass !== TEX_CLASS.CLOSE) return false;
  if (!row?.isKind("mrow") || row.getProperty("open") === undefined) return false;
  let tall = false;
  row.walkTree((node) => {
    const scripted = node.isKind("munder") || node.isKind("mover");
    const large = node.isKind("mo") && node.attributes.get("largeop");
    tall ||= TALL.includes(node.kind) || (scripted && !Object.keys(accents(node)).length)
      || (large && node.attributes.get("displaystyle"));
  });
  return !tall;
}

function isOnlySpace(node) {
  const inner = kids(node.childNodes[0]);
  return inner.length > 0 && inner.every((child) => child.isKind("mspace"));
}

module.exports = { TEX_CLASS, accents, hugsLowContent, isNothing, isOnlySpace, isRow, kids,
  operator, text };
