// TeX's spacing, written out: browsers space operators by a dictionary of their own.
"use strict";
const { isRow, kids, operator } = require("./nodes.js");

const EM = { thinmathspace: "0.1667em", mediummathspace: "0.2222em", thickmathspace: "0.2778em" };
// What the dictionary of MathML Core says of the commonest operators, to write it out less often.
const FENCES = new Set("()[]{}⟨⟩⌈⌉⌊⌋");
const RELATIONS = new Set("=<>≤≥≠∈∉⊂⊆→←↔⇒⇔↦∼≈≡≪≫∝≲≳");
const BINARY = new Set("+−±×⋅∘∩∪");

class Spacing {
  constructor(root) {
    this.sides = new Map(); // operator -> [space before, space after]
    this.before = new Map(); // any other node -> space before
    this.inner = new Set(); // operators that are neither first nor last in their row
    this.plan(root);
  }

  // Give the space that TeX puts before each node to the operator next to it, if there is one.
  plan(node) {
    const children = kids(node);
    children.forEach((child, i) => {
      const space = EM[child.texSpacing?.()] ?? "";
      const mo = operator(child);
      if (mo && isRow(node) && i > 0 && i < children.length - 1) this.inner.add(mo);
      if (mo) {
        // An operator within an operator (max with its subscript) has its space from without.
        if (space && !node.isEmbellished) this.of(mo)[0] = space;
      } else if (space && isRow(node)) {
        const previous = i > 0 && operator(children[i - 1]);
        if (previous) this.of(previous)[1] = space;
        else this.before.set(child, space);
      }
      if (child.childNodes) this.plan(child);
    });
  }

  of(mo) {
    if (!this.sides.has(mo)) this.sides.set(mo, ["0", "0"]);
    return this.sides.get(mo);
  }

  // Where a line may break between two nodes, the space stays at the end of the first line.
  breakBetween(last, next) {
    for (const mo of [operator(last), operator(next)]) if (mo) this.inner.delete(mo);
    const mo = operator(next);
    const space = mo ? this.of(mo)[0] : this.before.get(next);
    if (!space || space === "0") return;
    this.of(operator(last))[1] = space;
    if (mo) this.of(mo)[0] = "0";
    else this.before.delete(next);
  }

  // lspace and rspace of an operator, left out where the browser's dictionary says the same.
  attributes(mo, body) {
    const [left, right] = this.of(mo);
    if (FENCES.has(body) && left === "0" && right === "0") return "";
    if (this.inner.has(mo) && isUsual(body, left, right)) return "";
    const write = (name, value) =>
      (mo.attributes.getExplicit(name) === undefined ? ` ${name}="${value}"` : "");
    return write("lspace", left) + write("rspace", right);
  }
}

function isUsual(body, left, right) {
  if (RELATIONS.has(body)) return left === EM.thickmathspace && right === EM.thickmathspace;
  if (BINARY.has(body)) return left === EM.mediummathspace && right === EM.mediummathspace;
  return (body === "," || body === ";") && left === "0" && right === EM.thinmathspace;
}

module.exports = { Spacing };
