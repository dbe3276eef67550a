// Head grid: layers x heads, each cell coloured by a number. Click or arrow keys pick a head; with links, Enter opens its page.
//
// model: rows, columns, first (layer of the first row); scores {name: [rows * columns numbers]}; shown, the name of the scores to
// colour by; picked, a cell's number (row * columns + column); label, what the grid is; notes and links, of each cell, or [].

function render({ model, el }) {
  // Signs are for values of both signs, not for shares.
  const number = (value) => {
    const signed = model.get("scores")[model.get("shown")].some((each) => each < 0);
    return (value < 0 ? "−" : signed ? "+" : "") + Number(Math.abs(value).toPrecision(2));
  };
  const make = (tag, properties = {}, ...children) => {
    const node = Object.assign(document.createElement(tag), properties);
    node.append(...children);
    return node;
  };
  const rows = model.get("rows"),
    columns = model.get("columns"),
    first = model.get("first") ?? 0;
  const name = (cell) => `L${first + Math.floor(cell / columns)}H${cell % columns}`;
  const cells = [];
  const said = make("p", { className: "iu-said" });
  const grid = make("div", { className: "iu-grid" });
  grid.setAttribute("role", "grid");

  // Only one cell can be reached by Tab; the arrow keys go on from there.
  function move(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const here = cells.indexOf(event.target.closest(".iu-cell"));
    const there = event.key === "Home" ? 0 : event.key === "End" ? cells.length - 1 : here + (steps[event.key] ?? NaN);
    const wraps = Math.abs(steps[event.key]) === 1 && Math.floor(here / columns) !== Math.floor(there / columns);
    if (Number.isNaN(there)) return;
    event.preventDefault();
    event.stopPropagation();
    if (cells[there] && !wraps) {
      pick(there);
      cells[there].focus();
    }
  }

  function pick(cell) {
    if (cell === model.get("picked")) return;
    model.set("picked", cell);
    model.save_changes();
    grid.dispatchEvent(new Event("change", { bubbles: true })); // as any control does
  }

  function words(cell) {
    const note = model.get("notes")[cell];
    const value = model.get("scores")[model.get("shown")][cell];
    return `${name(cell)}: ${number(value)}${note ? ` — ${note}` : ""}`;
  }

  function say(cell) {
    said.textContent = words(cell);
  }

  function colour() {
    const values = model.get("scores")[model.get("shown")],
      picked = model.get("picked");
    const most = Math.max(...values.map(Math.abs)) || 1;
    cells.forEach((cell, k) => {
      const share = Math.round((100 * Math.abs(values[k])) / most);
      const hue = values[k] < 0 ? "var(--iu-less)" : "var(--iu-more)";
      cell.style.background = `color-mix(in srgb, ${hue} ${share}%, var(--iu-ground))`;
      cell.setAttribute("aria-label", words(k));
      cell.tabIndex = k === picked ? 0 : -1;
      cell.parentElement.setAttribute("aria-selected", String(k === picked));
    });
    legend.textContent = `from ${number(Math.min(...values))} to ${number(Math.max(...values))}`;
    grid.setAttribute("aria-label", `${model.get("label")}: ${model.get("shown")}, layers by heads`);
    say(picked);
  }

  function cellOf(k) {
    const link = model.get("links")[k];
    const cell = make(link ? "a" : "span", { className: "iu-cell", title: name(k) });
    if (link) cell.href = link;
    else cell.setAttribute("role", "button");
    cell.addEventListener("click", () => pick(k));
    cell.addEventListener("pointerenter", () => say(k));
    cell.addEventListener("focus", () => say(k));
    cells.push(cell);
    const place = make("div", {}, cell);
    place.setAttribute("role", "gridcell");
    return place;
  }

  for (let row = 0; row < rows; row++) {
    const head = make("div", { className: "iu-row-name", textContent: `L${first + row}` });
    head.setAttribute("role", "rowheader");
    const line = make("div", { className: "iu-row" }, head);
    line.setAttribute("role", "row");
    for (let column = 0; column < columns; column++) line.append(cellOf(row * columns + column));
    grid.append(line);
  }
  grid.addEventListener("keydown", move);
  grid.addEventListener("pointerleave", () => say(model.get("picked")));

  const legend = make("span", { className: "iu-legend" });
  const names = Object.keys(model.get("scores"));
  const choose = make("select", {}, ...names.map((each) => make("option", { textContent: each, value: each })));
  choose.value = model.get("shown");
  choose.addEventListener("change", () => {
    model.set("shown", choose.value);
    model.save_changes();
  });
  const colouredBy = make("label", {}, "colour: ", choose, " ");
  el.classList.add("iu");
  el.replaceChildren(make("div", {}, ...(names.length > 1 ? [colouredBy] : []), legend), grid, said);
  model.on("change:scores", colour);
  model.on("change:picked", colour);
  model.on("change:shown", colour);
  colour();
}

export default { render };
