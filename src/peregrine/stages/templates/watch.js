
// Served by `peregrine report RUN --watch`: looks now and then whether the run has changed, and puts the parts of the
// page that are new in the place of the old ones.
(() => {
  const every = 1500;
  const source = new Map();
  const note = document.getElementById("watched");
  const parts = (page) => [...page.querySelectorAll("main > section, #about")];
  for (const part of parts(document)) source.set(part.id, part.outerHTML);
  let version = "";

  function exchange(old, part) {
    const reachable = "summary, button, a, input, [tabindex]";
    const open = [...old.querySelectorAll("details")].map((one) => one.open);
    const checked = [...old.querySelectorAll("input")].map((one) => one.checked);
    const focused = [...old.querySelectorAll(reachable)].indexOf(document.activeElement);
    old.replaceWith(part);
    peregrine.enhance(part);
    part.querySelectorAll("details").forEach((one, index) => (one.open = open[index] ?? false));
    part.querySelectorAll("input").forEach((one, index) => (one.checked = checked[index] ?? one.checked));
    if (focused >= 0) part.querySelectorAll(reachable)[focused]?.focus({ preventScroll: true });
  }

  async function look() {
    const found = await (await fetch("/version")).text();
    if (found === version) return;
    const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
    version = found;
    document.title = page.title;
    let changed = false;
    for (const part of parts(page)) {
      const html = part.outerHTML;
      const old = document.getElementById(part.id);
      if (!old || source.get(part.id) === html) continue;
      source.set(part.id, html);
      exchange(old, document.importNode(part, true));
      changed = true;
    }
    if (changed) peregrine.filterable();
  }

  async function again() {
    let said = "This page follows the run.";
    try {
      await look();
    } catch {
      said = "The server has ended: this page no longer follows the run.";
    }
    if (note.textContent !== said) note.textContent = said;
    note.classList.toggle("lost", said.startsWith("The server"));
    setTimeout(again, every);
  }
  setTimeout(again, every);
})();
