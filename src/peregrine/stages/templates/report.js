"use strict";
// Adds to a page that is whole without it: what the pointer is on in charts, sorting and filtering of tables.

const peregrine = (() => {
  const make = (tag, name) => Object.assign(document.createElement(tag), { className: name });

  // ---- tables --------------------------------------------------------------------------------------------------

  function sortable(table) {
    for (const head of table.tHead.rows[0].cells) {
      const button = make("button", "");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, head));
    }
  }

  function sort(table, head) {
    const falling = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = table.tBodies[0];
    const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
    const compare = (one, other) => {
      const [a, b] = [Number(one), Number(other)];
      return isNaN(a) || isNaN(b) ? one.localeCompare(other, "en", { numeric: true }) : a - b;
    };
    const rows = [...body.rows].sort((one, other) => compare(value(one), value(other)));
    body.append(...(falling ? rows.reverse() : rows));
  }

  // ---- filters -------------------------------------------------------------------------------------------------

  // The boxes stand at the charts and at the tables; those of one value move together.
  function filterable() {
    const groups = [...document.querySelectorAll(".filters")];
    const boxes = groups.flatMap((group) => [...group.querySelectorAll("input")]);
    const key = (box) => box.closest("fieldset").dataset.key;
    const apply = () => {
      const off = boxes.filter((box) => !box.checked);
      const rows = [...document.querySelectorAll("tr[data-precision], a.point")];
      for (const row of rows) {
        row.classList.toggle("gone", off.some((box) => row.dataset[key(box)] === box.value));
      }
      const counted = [...document.querySelectorAll("#benchmark tr[id]")];
      const left = counted.filter((row) => !row.classList.contains("gone")).length;
      for (const group of groups) {
        group.querySelector(".found").textContent = off.length ? `${left} of ${counted.length} shown` : "";
      }
    };
    for (const group of groups) group.hidden = false;
    for (const box of boxes) {
      box.onchange = () => {
        for (const twin of boxes) if (key(twin) === key(box) && twin.value === box.value) twin.checked = box.checked;
        apply();
      };
    }
    apply();
  }

  // ---- charts --------------------------------------------------------------------------------------------------

  function readable(figure) {
    const frame = figure.querySelector(".frame");
    const plot = figure.querySelector(".plot");
    const tip = make("div", "tip gone");
    const guide = document.createElementNS("http://www.w3.org/2000/svg", "line");
    guide.setAttribute("class", "guide gone");
    guide.setAttribute("y1", "0");
    guide.setAttribute("y2", "100%");
    plot.prepend(guide);
    tip.setAttribute("aria-hidden", "true"); // the numbers are in the table, and a point's link has its name
    frame.append(tip);
    const marks = [...plot.querySelectorAll("circle.point, a.point, .bar")];
    for (const mark of marks) {
      const title = mark.querySelector("title");
      mark.tip = title.textContent;
      title.remove(); // or the browser would show it too
    }

    const centre = (mark) => {
      const box = (mark.querySelector("circle") ?? mark).getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2, box];
    };
    const hide = () => {
      tip.classList.add("gone");
      guide.classList.add("gone");
    };
    const show = (found) => {
      const area = frame.getBoundingClientRect();
      const inside = plot.getBoundingClientRect();
      const [x, y] = centre(found[0]);
      tip.replaceChildren(...found.map((mark) => Object.assign(make("div", ""), { textContent: mark.tip })));
      tip.classList.remove("gone");
      const left = Math.min(Math.max(x - area.left - tip.offsetWidth / 2, 0), area.width - tip.offsetWidth);
      const above = y - area.top - tip.offsetHeight - 16;
      tip.style.left = `${left}px`;
      tip.style.top = `${above < 0 ? y - area.top + 16 : above}px`;
      if (figure.dataset.near !== "x") return;
      const share = `${(100 * (x - inside.left)) / inside.width}%`;
      guide.setAttribute("x1", share);
      guide.setAttribute("x2", share);
      guide.classList.remove("gone");
    };

    plot.addEventListener("pointermove", (event) => {
      const places = marks.filter((mark) => !mark.classList.contains("gone")).map((mark) => [mark, ...centre(mark)]);
      if (!places.length) return hide();
      const all = figure.dataset.near === "x";
      const far = ([mark, x, y, box]) => {
        if (all) return Math.abs(x - event.clientX);
        if (!mark.matches(".bar")) return Math.hypot(x - event.clientX, y - event.clientY);
        return event.clientX >= box.left && event.clientX <= box.right && event.clientY <= box.bottom ? 0 : Infinity;
      };
      const nearest = places.reduce((one, other) => (far(other) < far(one) ? other : one));
      if (!all && far(nearest) > 40) return hide();
      show(all ? places.filter(([, x]) => Math.abs(x - nearest[1]) < 0.5).map(([mark]) => mark) : [nearest[0]]);
    });
    plot.addEventListener("pointerleave", hide);
    for (const mark of marks) {
      mark.addEventListener("focus", () => show([mark]));
      mark.addEventListener("blur", hide);
    }
  }

  function enhance(root) {
    root.querySelectorAll("table.sortable").forEach(sortable);
    root.querySelectorAll("figure.chart").forEach(readable);
  }

  // Browsers print a closed <details> closed: it is opened for paper, and closed again.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  addEventListener("afterprint", () => opened.forEach((one) => (one.open = false)));

  addEventListener("DOMContentLoaded", () => {
    enhance(document);
    filterable();
  });
  return { enhance, filterable };
})();
