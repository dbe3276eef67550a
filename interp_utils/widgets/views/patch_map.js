// Patch map: an image under a grid of numbers, one a patch. Hover a patch, or go there with the arrow keys: its value is said,
// and, where there are maps of several heads, which of them read most from it.
//
// model: image (address), alt; maps, [n][rows][columns]; picked, which map is shown; names, of the maps, or [] for a single one;
// limit, the value of full colour, or 0 for the largest of the map shown.

// With as many decimals as leave the largest value of a map two digits.
function number(value, largest) {
  const said = Math.abs(value).toFixed(largest > 0 ? Math.max(0, 1 - Math.floor(Math.log10(largest))) : 0);
  return (Number(said) === 0 ? "" : value < 0 ? "−" : "+") + said;
}

function render({ model, el }) {
  const picture = document.createElement("img");
  const grid = document.createElement("div");
  const said = document.createElement("p");
  const frame = document.createElement("div");
  let cells = [],
    columns = 1;
  frame.className = "iu-map";
  grid.className = "iu-patches";
  grid.setAttribute("role", "grid");
  said.className = "iu-said";

  const shown = () => model.get("maps")[model.get("picked")] ?? model.get("maps")[0];
  const largest = () => Math.max(...shown().flat().map(Math.abs));

  function words(place) {
    const row = Math.floor(place / columns),
      column = place % columns;
    const names = model.get("names"),
      maps = model.get("maps");
    const most = names
      .map((name, k) => [name, maps[k][row][column]])
      .sort((one, other) => Math.abs(other[1]) - Math.abs(one[1]))
      .slice(0, 3)
      .map(([name, value]) => `${name} ${number(value, largest())}`);
    const heads = most.length ? `; most by ${most.join(", ")}` : "";
    return `row ${row + 1}, column ${column + 1}: ${number(shown()[row][column], largest())}${heads}`;
  }

  function say(place) {
    said.textContent = words(place);
  }

  function rest() {
    const values = shown().flat();
    said.textContent = `${number(Math.min(...values), largest())} to ${number(Math.max(...values), largest())}`;
  }

  function move(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    const here = cells.indexOf(event.target),
      there = here + (steps[event.key] ?? NaN);
    if (Number.isNaN(there)) return;
    event.preventDefault();
    event.stopPropagation();
    const wraps = Math.abs(steps[event.key]) === 1 && Math.floor(here / columns) !== Math.floor(there / columns);
    if (!cells[there] || wraps) return;
    cells[here].tabIndex = -1;
    cells[there].tabIndex = 0;
    cells[there].focus();
  }

  function lay() {
    const map = shown();
    columns = map[0].length;
    cells = [];
    grid.style.gridTemplateRows = `repeat(${map.length}, 1fr)`;
    grid.replaceChildren(
      ...map.map((values, row) => {
        const line = document.createElement("div");
        line.setAttribute("role", "row");
        line.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
        line.append(...values.map((_, column) => patch(row, column)));
        return line;
      }),
    );
  }

  function patch(row, column) {
    const cell = document.createElement("span");
    cell.setAttribute("role", "gridcell");
    cell.tabIndex = row + column ? -1 : 0;
    cell.addEventListener("pointerenter", () => say(row * columns + column));
    cell.addEventListener("focus", () => say(row * columns + column));
    cells.push(cell);
    return cell;
  }

  function colour() {
    const map = shown();
    if (map.length * map[0].length !== cells.length) lay();
    const values = map.flat();
    const most = model.get("limit") || Math.max(...values.map(Math.abs)) || 1;
    values.forEach((value, k) => {
      const share = Math.round(Math.min(1, Math.abs(value) / most) * 80);
      const hue = value < 0 ? "var(--iu-less)" : "var(--iu-more)";
      cells[k].style.background = `color-mix(in srgb, ${hue} ${share}%, transparent)`;
      cells[k].setAttribute("aria-label", words(k));
    });
    picture.src = model.get("image");
    picture.alt = model.get("alt");
    const name = model.get("names")[model.get("picked")];
    grid.setAttribute("aria-label", `map${name ? ` of ${name}` : ""} on ${model.get("alt")}`);
    rest();
  }

  grid.addEventListener("keydown", move);
  grid.addEventListener("pointerleave", rest);
  grid.addEventListener("focusout", rest);
  frame.append(picture, grid);
  el.classList.add("iu");
  el.replaceChildren(frame, said);
  for (const trait of ["maps", "picked", "image", "alt"]) model.on(`change:${trait}`, colour);
  colour();
}

export default { render };
