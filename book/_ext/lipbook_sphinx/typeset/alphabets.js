// Mathematical alphabets: MathML Core wants Unicode letters where TeX names a style.
"use strict";

// First code point of A, a, 0, Α, α; the exceptions are letters that Unicode had before.
const STYLES = {
  bold: [0x1d400, 0x1d41a, 0x1d7ce, 0x1d6a8, 0x1d6c2],
  italic: [0x1d434, 0x1d44e, null, 0x1d6e2, 0x1d6fc],
  "bold-italic": [0x1d468, 0x1d482, null, 0x1d71c, 0x1d736],
  script: [0x1d49c, 0x1d4b6, null, null, null],
  "bold-script": [0x1d4d0, 0x1d4ea, null, null, null],
  fraktur: [0x1d504, 0x1d51e, null, null, null],
  "bold-fraktur": [0x1d56c, 0x1d586, null, null, null],
  "double-struck": [0x1d538, 0x1d552, 0x1d7d8, null, null],
  "sans-serif": [0x1d5a0, 0x1d5ba, 0x1d7e2, null, null],
  "bold-sans-serif": [0x1d5d4, 0x1d5ee, 0x1d7ec, 0x1d756, 0x1d770],
  "sans-serif-italic": [0x1d608, 0x1d622, null, null, null],
  monospace: [0x1d670, 0x1d68a, 0x1d7f6, null, null],
};
const ALIASES = {
  "-tex-calligraphic": "script",
  "-tex-bold-calligraphic": "bold-script",
  "-tex-mathit": "italic",
  "-tex-oldstyle": "normal",
  "-tex-bold-oldstyle": "bold",
};
const EXCEPTIONS = {
  italic: { h: "ℎ", ı: "𝚤", ȷ: "𝚥" },
  script: { B: "ℬ", E: "ℰ", F: "ℱ", H: "ℋ", I: "ℐ", L: "ℒ", M: "ℳ", R: "ℛ", e: "ℯ", g: "ℊ", o: "ℴ" },
  fraktur: { C: "ℭ", H: "ℌ", I: "ℑ", R: "ℜ", Z: "ℨ" },
  "double-struck": { C: "ℂ", H: "ℍ", N: "ℕ", P: "ℙ", Q: "ℚ", R: "ℝ", Z: "ℤ" },
};
// Symbols at the end of each Greek alphabet, in the order of their code points.
const GREEK_TAIL = "∂ϵϑϰϕϱϖ";

function letter(c, style) {
  const known = EXCEPTIONS[style]?.[c];
  if (known) return known;
  const [upper, lower, digit, upperGreek, lowerGreek] = STYLES[style];
  const code = c.codePointAt(0);
  const shift = (base, first) => (base === null ? c : String.fromCodePoint(base + code - first));
  if (c >= "A" && c <= "Z") return shift(upper, 0x41);
  if (c >= "a" && c <= "z") return shift(lower, 0x61);
  if (c >= "0" && c <= "9") return shift(digit, 0x30);
  if (c >= "Α" && c <= "Ω") return shift(upperGreek, 0x391);
  if (c === "∇") return upperGreek === null ? c : String.fromCodePoint(upperGreek + 25);
  if (c >= "α" && c <= "ω") return shift(lowerGreek, 0x3b1);
  const tail = GREEK_TAIL.indexOf(c);
  if (tail >= 0 && lowerGreek !== null) return String.fromCodePoint(lowerGreek + 25 + tail);
  return c;
}

exports.letters = (s, variant) => {
  const style = ALIASES[variant] ?? variant;
  return style in STYLES ? [...s].map((c) => letter(c, style)).join("") : s;
};
