"use strict";
// Counts down between two answers of the server, and says when the server does not answer. All else is HTML.
(() => {
  const parts = (s) => {
    if (s <= 0) return ["now"];
    if (s < 60) return [s, "s"];
    if (s < 3600) return [Math.floor(s / 60), "min", s % 60, "s"];
    if (s < 86400) return [Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min"];
    return [Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h"];
  };
  const words = (s) => parts(s).join("\u00a0");
  const seen = new WeakMap(); // element -> what the server said, and when it was seen
  const tick = () => {
    for (const el of document.querySelectorAll("[data-left]")) {
      const said = el.dataset.left;
      let from = seen.get(el);
      if (!from || from.said !== said) seen.set(el, (from = { said, at: performance.now() }));
      const text = words(Math.max(0, Number(said) - Math.floor((performance.now() - from.at) / 1000)));
      if (el.textContent !== text) el.textContent = text;
    }
  };
  setInterval(tick, 1000);

  const stale = (is) => {
    const note = document.getElementById("stale");
    if (note && note.hidden === is) note.hidden = !is;
  };
  document.addEventListener("htmx:after:request", (e) => stale((e.detail.ctx?.response?.status ?? 500) >= 500));
  document.addEventListener("htmx:error", (e) => {
    if (e.detail.ctx) stale(true);
  });
})();
