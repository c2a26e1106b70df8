"use strict";
// What is wider than its box can be scrolled with the keyboard, and says that it can.
(() => {
  const boxes = [
    [".equation-box", "Wide formula"],
    [".pst-scrollable-table-container, .cell_output .output.text_html", "Wide table"],
    [".highlight pre, .cell_output .output.stream", "Wide text"],
  ];
  const mark = () => {
    for (const [selector, name] of boxes)
      for (const box of document.querySelectorAll(selector)) {
        if (box.scrollWidth > box.clientWidth + 1) {
          box.tabIndex = 0;
          box.setAttribute("role", "group");
          box.setAttribute("aria-label", `${name}, scrolls sideways`);
        } else if (box.getAttribute("role") === "group") {
          for (const name of ["tabindex", "role", "aria-label"]) box.removeAttribute(name);
        }
      }
  };
  let waiting = 0;
  const soon = () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(mark);
  };
  addEventListener("resize", soon);
  addEventListener("load", soon);
  document.fonts?.addEventListener("loadingdone", mark); // wider letters: at once, not a frame late
  document.addEventListener("toggle", soon, true); // a fold that opens shows new boxes
  soon();

  // The theme takes the focus away from its colour switch, and with it the reader's place.
  addEventListener("click", (event) => {
    const button = event.target.closest?.(".theme-switch-button");
    if (button) setTimeout(() => button.focus());
  });
})();
