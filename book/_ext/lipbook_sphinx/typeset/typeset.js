// Turns TeX into MathML Core with MathJax, one process for the whole book.
//   stdin:  {mathjax: DIR, macros: {...}, items: [{tex, display}, ...]}
//   stdout: [{mathml, characters} | {error}, ...]
// Browsers read only MathML Core: operators get TeX's spacing written out, alphabets become
// Unicode letters, table alignment becomes inline style, and what Core lacks is an error.
"use strict";
const path = require("path");
const { letters } = require("./alphabets.js");

const PACKAGES = ["base", "ams", "newcommand", "configmacros", "boldsymbol", "mathtools", "color"];
const UNSUPPORTED = {
  menclose: "boxes and strikes",
  mlabeledtr: "\\tag (label the equation instead)",
  maction: "\\mathtip and toggles",
  mglyph: "images in formulas",
};
const KEPT = new Set(["accent", "accentunder", "depth", "displaystyle", "fence", "height",
  "largeop", "linethickness", "lspace", "mathcolor", "maxsize", "minsize", "movablelimits",
  "rspace", "scriptlevel", "stretchy", "symmetric", "voffset", "width"]);
const EM = { thinmathspace: "0.1667em", mediummathspace: "0.2222em", thickmathspace: "0.2778em" };
const FENCES = new Set("()[]{}⟨⟩⌈⌉⌊⌋");
const RELATIONS = new Set("=<>≤≥≠∈∉⊂⊆→←↔⇒⇔↦∼≈≡≪≫∝≲≳");
const BINARY = new Set("+−±×⋅∘∩∪");
// As accents these sit at their proper height.
const ACCENTS = { "^": "ˆ", "~": "˜", "―": "‾" };
const LONG = 22; // symbols; a longer inline formula may be broken after a relation
const REL = 3, NONE = -1, OPEN = 4, CLOSE = 5;

const escapeText = (s) => s.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const escapeAttribute = (s) => escapeText(String(s)).replace(/"/g, "&quot;");
const isRow = (n) => n.isKind("inferredMrow") || n.isKind("mrow");
const text = (n) => n.childNodes.map((c) => c.text ?? "").join("");
const kids = (n) => n.childNodes.filter((c) => c && !isNothing(c));

// Empty identifiers and fences carry only TeX's spacing, which is written out anyway.
function isNothing(n) {
  return (n.isKind("mi") || n.isKind("mo")) && text(n) === "";
}

class Writer {
  constructor() {
    this.characters = new Set();
    this.around = new Map(); // mo -> [lspace, rspace]
    this.tight = new Set(); // mo whose place in its row is neither first nor last
  }

  // Give the space that TeX puts before each node to the operator next to it, or to an mspace.
  plan(node) {
    const row = isRow(node) ? kids(node) : [];
    row.forEach((child, i) => {
      const mo = operator(child);
      if (mo && i > 0 && i < row.length - 1) this.tight.add(mo);
    });
    kids(node).forEach((child, i) => {
      const space = EM[child.texSpacing?.()] ?? "";
      if (operator(child)) {
        // An operator within an operator (max with its subscript) has its space from without.
        if (space && !node.isEmbellished) this.spaces(operator(child))[0] = space;
      } else if (space && row.length) {
        const previous = i > 0 && operator(row[i - 1]);
        if (previous) this.spaces(previous)[1] = space;
        else child.lipbookSpace = space;
      }
      if (child.childNodes) this.plan(child);
    });
  }

  // Where a line may break, the space stays at the end of the first line.
  moveSpace(last, next) {
    const mo = operator(next);
    const space = mo ? this.spaces(mo)[0] : next.lipbookSpace;
    if (!space || space === "0") return;
    this.spaces(operator(last))[1] = space;
    if (mo) this.spaces(mo)[0] = "0";
    else delete next.lipbookSpace;
  }

  spaces(mo) {
    if (!this.around.has(mo)) this.around.set(mo, ["0", "0"]);
    return this.around.get(mo);
  }

  write(node) {
    if (node.isKind("text")) return this.characterData(node.text);
    if (node.isKind("math")) return this.children(node.childNodes[0]);
    if (node.kind in UNSUPPORTED) throw Error(`MathML has no ${UNSUPPORTED[node.kind]}`);
    const space = node.lipbookSpace ? `<mspace width="${node.lipbookSpace}"></mspace>` : "";
    return space + this.element(node);
  }

  element(node) {
    if (node.isKind("inferredMrow")) return this.row(node);
    if (node.isKind("TeXAtom")) return this.row(node.childNodes[0]);
    if (node.isKind("mstyle") && onlySpace(node)) return this.children(node.childNodes[0]);
    if (node.isKind("mtable")) return this.table(node);
    if (node.isToken) return this.token(node);
    const name = node.isKind("none") ? "mrow" : node.kind;
    if (name === "msqrt" || name === "mroot") this.characterData("√"); // the font must have it
    const inner = node.isKind("mrow")
      ? kids(node).map((c) => this.write(c)).join("")
      : node.childNodes.map((c, i) => this.argument(c, i === 0)).join("");
    return `<${name}${this.attributes(node)}>${inner}</${name}>`;
  }

  // The children of a row without an element around them.
  children(node) {
    if (!node.isKind("inferredMrow")) return this.write(node);
    return kids(node).map((c) => this.write(c)).join("");
  }

  // A row, wrapped in mrow only where it holds more or less than one element.
  row(node) {
    const inner = kids(node);
    return inner.length === 1 ? this.write(inner[0]) : `<mrow>${this.children(node)}</mrow>`;
  }

  // One argument of a fraction, script, ...: exactly one element, whatever it holds.
  argument(node, first) {
    if (node.isKind("inferredMrow")) return this.children(node); // sqrt, style, padding
    if (isNothing(node)) return "<mrow></mrow>";
    const written = this.write(node);
    // A sized fence under a script keeps its size only within a row of its own.
    const sized = first && operator(node)?.attributes.getExplicit("minsize");
    return written === "" || node.lipbookSpace || sized ? `<mrow>${written}</mrow>` : written;
  }

  token(node) {
    if (node.isKind("mspace")) return `<mspace${this.attributes(node)}></mspace>`;
    const variant = node.attributes.get("mathvariant");
    const explicit = node.attributes.getExplicit("mathvariant");
    let body = text(node);
    let extra = "";
    if (node.isKind("mo") && node.getProperty("mathaccent")) body = ACCENTS[body] ?? body;
    else if (node.isKind("mo") && body === "―") body = "‾";
    if (explicit === "normal" && node.isKind("mi") && [...body].length === 1)
      extra = ' mathvariant="normal"';
    else if (explicit && !node.isKind("mtext")) body = letters(body, explicit);
    else if (node.isKind("mi") && [...body].length === 1 && variant === "italic")
      this.characterData(letters(body, "italic")); // the browser slants it: the font must have it
    const attributes = this.attributes(node) + extra + this.spacing(node, body);
    return `<${node.kind}${attributes}>${this.characterData(body)}</${node.kind}>`;
  }

  // lspace and rspace, left out where the operator dictionary of MathML Core says the same.
  spacing(node, body) {
    if (!node.isKind("mo")) return "";
    const has = (name) => node.attributes.getExplicit(name) !== undefined;
    const [left, right] = this.around.get(node) ?? ["0", "0"];
    if (FENCES.has(body) && left === "0" && right === "0") return "";
    if (this.tight.has(node) && same(body, left, right)) return "";
    return (has("lspace") ? "" : ` lspace="${left}"`) + (has("rspace") ? "" : ` rspace="${right}"`);
  }

  attributes(node) {
    const { accent: _, ...all } = node.attributes.getAllAttributes();
    if (node.isKind("mo") && hugsLowContent(node)) all.stretchy = false;
    if (node.isKind("mover") || node.isKind("munder") || node.isKind("munderover"))
      Object.assign(all, accents(node));
    return Object.entries(all)
      .filter(([name, value]) => KEPT.has(name) && value !== "" && value !== undefined)
      .map(([name, value]) => ` ${name}="${escapeAttribute(value)}"`).join("");
  }

  // Core has no column attributes: every cell carries its alignment and padding.
  table(node) {
    const list = (name, fallback) => String(node.attributes.get(name) ?? fallback).split(/\s+/);
    const shape = { align: list("columnalign", "center"), gap: list("columnspacing", "0.8em"),
      rise: list("rowspacing", "1ex"), lines: list("columnlines", "none"),
      rules: list("rowlines", "none") };
    const rows = node.childNodes.map((row, i) => {
      if (row.kind in UNSUPPORTED) throw Error(`MathML has no ${UNSUPPORTED[row.kind]}`);
      const cells = row.childNodes.map((cell, j) =>
        `<mtd style="${cellStyle(shape, i, j, node.childNodes.length, row.childNodes.length)}">`
        + `${this.children(cell.childNodes[0])}</mtd>`);
      return `<mtr>${cells.join("")}</mtr>`;
    });
    return `<mtable${this.attributes(node)}>${rows.join("")}</mtable>`;
  }

  characterData(s) {
    for (const c of s) this.characters.add(c);
    return escapeText(s);
  }
}

// The operator at the heart of an outermost embellished node, if it is one.
function operator(node) {
  if (!node.isEmbellished || node.isKind("inferredMrow")) return null;
  return node.coreMO();
}

// TeX's delimiters may fall short of letters with scripts; Core's cover them and look too big.
function hugsLowContent(mo) {
  const row = mo.parent;
  if (mo.texClass !== OPEN && mo.texClass !== CLOSE) return false;
  if (!row?.isKind("mrow") || row.getProperty("open") === undefined) return false;
  let tall = false;
  row.walkTree((n) => {
    tall ||= ["mfrac", "mtable", "msqrt", "mroot", "munderover"].includes(n.kind)
      || ((n.isKind("munder") || n.isKind("mover")) && !Object.keys(accents(n)).length)
      || n.attributes?.get("displaystyle") && n.isKind("mo") && n.attributes.get("largeop");
  });
  return !tall;
}

function onlySpace(node) {
  const inner = kids(node.childNodes[0]);
  return inner.length > 0 && inner.every((c) => c.isKind("mspace"));
}

function same(body, left, right) {
  if (RELATIONS.has(body)) return left === EM.thickmathspace && right === EM.thickmathspace;
  if (BINARY.has(body)) return left === EM.mediummathspace && right === EM.mediummathspace;
  return (body === "," || body === ";") && left === "0" && right === EM.thinmathspace;
}

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

function length(value) {
  const number = parseFloat(value) || 0;
  const unit = String(value).replace(/^[-\d.]+/, "");
  return number * ({ pt: 0.1, ex: 0.45, mu: 1 / 18 }[unit] ?? 1); // in em
}

function cellStyle(shape, i, j, rows, columns) {
  const at = (list, k) => list[Math.min(k, list.length - 1)];
  const half = (list, k) => (length(at(list, k)) / 2);
  const em = (x) => (x ? `${+x.toFixed(3)}em` : "0");
  const top = i > 0 ? half(shape.rise, i - 1) + 0.12 : 0.1;
  const bottom = i < rows - 1 ? half(shape.rise, i) + 0.12 : 0.1;
  const left = j > 0 ? half(shape.gap, j - 1) : 0;
  const right = j < columns - 1 ? half(shape.gap, j) : 0;
  const align = at(shape.align, j);
  let style = `padding:${em(top)} ${em(right)} ${em(bottom)} ${em(left)}`;
  if (align !== "center") style += `;text-align:${align}`;
  if (j > 0 && at(shape.lines, j - 1) !== "none") style += ";border-left:.06em solid";
  if (i > 0 && at(shape.rules, i - 1) !== "none") style += ";border-top:.06em solid";
  return style;
}

// A long inline formula is cut after relations outside fences, so that a phone can break it.
function pieces(root, display) {
  const row = kids(root.childNodes[0]);
  let size = 0;
  root.walkTree((n) => { if (n.isToken) size += [...text(n)].length; });
  if (display || size <= LONG || !row.length) return [row];
  const parts = [[]];
  let depth = 0;
  row.forEach((node) => {
    parts[parts.length - 1].push(node);
    if (node.texClass === OPEN) depth += 1;
    if (node.texClass === CLOSE) depth -= 1;
    if (depth === 0 && (node.texClass === REL || operator(node) && text(operator(node)) === ","))
      parts.push([]);
  });
  return parts.filter((part) => part.length);
}

function convert(MathJax, { tex, display }) {
  const STATE = MathJax._.core.MathItem.STATE;
  const root = MathJax.startup.document.convert(tex, { display, end: STATE.CONVERT });
  root.setTeXclass(null);
  const writer = new Writer();
  writer.plan(root);
  const open = display ? '<math display="block">' : "<math>";
  const written = pieces(root, display).map((part, i, parts) => {
    for (const end of [part[0], part[part.length - 1]])
      if (end && operator(end)) writer.tight.delete(operator(end));
    if (i + 1 < parts.length) writer.moveSpace(part[part.length - 1], parts[i + 1][0]);
    return `${open}${part.map((n) => writer.write(n)).join("")}</math>`;
  });
  return { mathml: written.join("<wbr>"), characters: [...writer.characters].sort().join("") };
}

async function main() {
  const job = JSON.parse(require("fs").readFileSync(0, "utf8"));
  // A missing version in one component is reported on the console, which is our output.
  console.log = console.warn = console.info = () => {};
  const MathJax = await require(path.join(job.mathjax, "node-main.js")).init({
    loader: { paths: { mathjax: job.mathjax }, load: ["input/tex-full", "adaptors/liteDOM"] },
    tex: { packages: PACKAGES, macros: job.macros, formatError: (_, error) => { throw error; } },
  });
  const answers = job.items.map((item) => {
    try {
      return convert(MathJax, item);
    } catch (error) {
      return { error: error.message };
    }
  });
  process.stdout.write(JSON.stringify(answers));
}

main().catch((error) => {
  process.stderr.write(`${error.stack ?? error}\n`);
  process.exit(1);
});
