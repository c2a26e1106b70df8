// Writes MathJax's tree as MathML Core, and notes the characters that the font must have.
"use strict";
const { letters } = require("./alphabets.js");
const { accents, hugsLowContent, isNothing, isOnlySpace, kids, operator, text } =
  require("./nodes.js");
const { cellStyles } = require("./tables.js");

const UNSUPPORTED = {
  menclose: "boxes and strikes",
  mlabeledtr: "\\tag: label the equation instead",
  maction: "\\mathtip and toggles",
  mglyph: "images in formulas",
};
const KEPT = new Set(["accent", "accentunder", "depth", "displaystyle", "fence", "height",
  "largeop", "linethickness", "lspace", "mathcolor", "maxsize", "minsize", "movablelimits",
  "rspace", "scriptlevel", "stretchy", "symmetric", "voffset", "width"]);
const ACCENTS = { "^": "ˆ", "~": "˜", "―": "‾" }; // as accents these sit at their proper height

const escapeText = (s) => s.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const escapeAttribute = (s) => escapeText(String(s)).replace(/"/g, "&quot;");

class Writer {
  constructor(spacing) {
    this.spacing = spacing;
    this.characters = new Set();
  }

  write(node) {
    if (node.isKind("text")) return this.characterData(node.text);
    if (node.kind in UNSUPPORTED) throw Error(`MathML has no ${UNSUPPORTED[node.kind]}`);
    const space = this.spacing.before.get(node);
    return (space ? `<mspace width="${space}"></mspace>` : "") + this.element(node);
  }

  element(node) {
    if (node.isKind("inferredMrow")) return this.row(node);
    if (node.isKind("TeXAtom")) return this.row(node.childNodes[0]);
    if (node.isKind("mstyle") && isOnlySpace(node)) return this.children(node.childNodes[0]);
    if (node.isKind("mtable")) return this.table(node);
    if (node.isKind("mspace")) return `<mspace${this.attributes(node)}></mspace>`;
    if (node.isToken) return this.token(node);
    const name = node.isKind("none") ? "mrow" : node.kind;
    if (name === "msqrt" || name === "mroot") this.characterData("√"); // drawn by the browser
    const inner = node.isKind("mrow")
      ? this.children(node)
      : node.childNodes.map((child, i) => this.argument(child, i === 0)).join("");
    return `<${name}${this.attributes(node)}>${inner}</${name}>`;
  }

  children(row) {
    return kids(row).map((child) => this.write(child)).join("");
  }

  // A row, wrapped in mrow only where it holds more or less than one element.
  row(node) {
    const inner = kids(node);
    return inner.length === 1 ? this.write(inner[0]) : `<mrow>${this.children(node)}</mrow>`;
  }

  // One argument of a fraction, script, ...: exactly one element, whatever it holds.
  argument(node, first) {
    if (node.isKind("inferredMrow")) return this.children(node); // root, style, padding
    if (isNothing(node)) return "<mrow></mrow>";
    const written = this.write(node);
    // A sized fence under a script keeps its size only within a row of its own.
    const sized = first && operator(node)?.attributes.getExplicit("minsize");
    const several = written === "" || this.spacing.before.has(node);
    return several || sized ? `<mrow>${written}</mrow>` : written;
  }

  token(node) {
    const explicit = node.attributes.getExplicit("mathvariant");
    const single = node.isKind("mi") && [...text(node)].length === 1;
    let body = text(node);
    let extra = "";
    if (node.isKind("mo") && node.getProperty("mathaccent")) body = ACCENTS[body] ?? body;
    else if (node.isKind("mo") && body === "―") body = "‾";
    if (single && explicit === "normal") extra = ' mathvariant="normal"';
    else if (explicit && !node.isKind("mtext")) body = letters(body, explicit);
    else if (single) this.characterData(letters(body, "italic")); // slanted by the browser
    if (node.isKind("mo")) extra += this.spacing.attributes(node, body);
    return `<${node.kind}${this.attributes(node)}${extra}>${this.characterData(body)}</${node.kind}>`;
  }

  attributes(node) {
    const { accent: _, ...all } = node.attributes.getAllAttributes();
    if (node.isKind("mo") && hugsLowContent(node)) all.stretchy = false;
    if (["mover", "munder", "munderover"].includes(node.kind)) Object.assign(all, accents(node));
    return Object.entries(all)
      .filter(([name, value]) => KEPT.has(name) && value !== "" && value !== undefined)
      .map(([name, value]) => ` ${name}="${escapeAttribute(value)}"`).join("");
  }

  table(node) {
    const style = cellStyles(node);
    const rows = node.childNodes.map((row, i) => {
      if (row.kind in UNSUPPORTED) throw Error(`MathML has no ${UNSUPPORTED[row.kind]}`);
      const cells = row.childNodes.map((cell, j) =>
        `<mtd style="${style(i, j, row.childNodes.length)}">${this.children(cell.childNodes[0])}</mtd>`);
      return `<mtr>${cells.join("")}</mtr>`;
    });
    return `<mtable${this.attributes(node)}>${rows.join("")}</mtable>`;
  }

  characterData(s) {
    for (const c of s) this.characters.add(c);
    return escapeText(s);
  }
}

module.exports = { Writer };
