// Turns TeX into MathML Core with MathJax, one process for the whole book.
//   stdin:  {mathjax: DIR, macros: {...}, items: [{tex, display}, ...]}
//   stdout: [{mathml, characters} | {error}, ...]
// Browsers read only MathML Core: operators get TeX's spacing written out, alphabets become
// Unicode letters, table alignment becomes inline style, and what Core lacks is an error.
"use strict";
const path = require("path");
const { TEX_CLASS, kids, operator, text } = require("./nodes.js");
const { Spacing } = require("./spacing.js");
const { Writer } = require("./writer.js");

const PACKAGES = ["base", "ams", "newcommand", "configmacros", "boldsymbol", "mathtools", "color"];
const LONG = 22; // symbols; a longer inline formula may be broken

const isComma = (mo) => text(mo) === ",";
// Where a line may break, best places first: outside fences after a relation or a comma, then
// inside fences too, and last after a plus or a minus.
const PLACES = [
  (node, mo, depth) => depth === 0 && (node.texClass === TEX_CLASS.REL || isComma(mo)),
  (node, mo) => node.texClass === TEX_CLASS.REL || isComma(mo),
  (node) => node.texClass === TEX_CLASS.BIN,
];

function size(nodes) {
  let count = 0;
  for (const node of nodes)
    node.walkTree((each) => { if (each.isToken) count += [...text(each)].length; });
  return count;
}

// A row of nodes in pieces between which a line may break, each as short as need be.
function pieces(row, places = PLACES) {
  if (size(row) <= LONG || !places.length) return [row];
  const parts = [[]];
  let depth = 0;
  for (const node of row) {
    parts[parts.length - 1].push(node);
    if (node.texClass === TEX_CLASS.OPEN) depth += 1;
    if (node.texClass === TEX_CLASS.CLOSE) depth -= 1;
    const mo = operator(node);
    if (mo && places[0](node, mo, depth)) parts.push([]);
  }
  return parts.filter((part) => part.length).flatMap((part) => pieces(part, places.slice(1)));
}

function convert(MathJax, { tex, display }) {
  const STATE = MathJax._.core.MathItem.STATE;
  const root = MathJax.startup.document.convert(tex, { display, end: STATE.CONVERT });
  root.setTeXclass(null);
  const spacing = new Spacing(root);
  const row = kids(root.childNodes[0]);
  const parts = display ? [row] : pieces(row);
  parts.slice(1).forEach((part, i) => spacing.breakBetween(parts[i].at(-1), part[0]));
  const writer = new Writer(spacing);
  const open = display ? '<math display="block">' : "<math>";
  const mathml = parts
    .map((part) => `${open}${part.map((node) => writer.write(node)).join("")}</math>`)
    .join("<wbr>");
  return { mathml, characters: [...writer.characters].sort().join("") };
}

async function main() {
  const job = JSON.parse(require("fs").readFileSync(0, "utf8"));
  // MathJax reports small things on the console, and standard output is for the answers.
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
  process.exitCode = 1;
});
