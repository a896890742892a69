"use strict";
// Marks each box that is scrolled sideways or down: its edge fades where more of its content is hidden, a line below
// it says so, and the keyboard can scroll it. Without JavaScript it has the scroll bar of the browser only.
{
  const mark = () => {
    for (const box of document.querySelectorAll(".scroll, pre")) {
      const right = box.scrollLeft + box.clientWidth < box.scrollWidth - 1;
      const below = box.matches("pre") && box.scrollTop + box.clientHeight < box.scrollHeight - 1;
      box.classList.toggle("more-right", right);
      box.classList.toggle("more-below", below);
      if (right || below) box.tabIndex = 0;
      if (right && !box.nextElementSibling?.matches(".more-hint")) {
        const hint = document.createElement("p");
        hint.className = "more-hint";
        hint.textContent = "Scroll sideways for more \u2192";
        box.after(hint);
      }
    }
  };
  let waiting = false;
  const soon = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      mark();
    });
  };
  addEventListener("load", soon);
  addEventListener("resize", soon);
  addEventListener("scroll", soon, true);
  new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
  soon();
}
