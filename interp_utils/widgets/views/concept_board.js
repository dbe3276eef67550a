// Concept board: one concept through many models. Beside each image stand the maps of the matched units, one a model; point at a
// place, or go there with the arrow keys, and every model's value at this place is said.
//
// model: units, [{name, note, link}], a column each; images, [{image (address), alt, maps}], a row each, with a map of
// [rows][columns] numbers for each unit; limit, the value of full colour; measure, what the numbers are.

import heat from "./heat.js";

const number = (value) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const STEPS = 8; // places that the arrow keys know, along each side

function render({ model, el }) {
  const said = document.createElement("p");
  const board = document.createElement("div");
  let place = { row: 0, x: 0.5, y: 0.5 };
  said.className = "iu-said";
  board.className = "iu-board";
  board.tabIndex = 0;
  board.setAttribute("role", "group");

  const valueAt = (map) => {
    const row = map[Math.min(map.length - 1, Math.floor(place.y * map.length))];
    return row[Math.min(row.length - 1, Math.floor(place.x * row.length))];
  };

  function say() {
    const image = model.get("images")[place.row];
    const values = model.get("units").map(({ name }, k) => `${name} ${number(valueAt(image.maps[k]))}`);
    const where = `${image.alt}, ${Math.round(100 * place.x)} % from the left, ${Math.round(100 * place.y)} % from the top`;
    said.textContent = `${where}: ${values.join(", ")}`;
    for (const mark of board.querySelectorAll(".iu-mark")) {
      mark.hidden = Number(mark.dataset.row) !== place.row;
      mark.style.left = `${100 * place.x}%`;
      mark.style.top = `${100 * place.y}%`;
    }
  }

  function rest() {
    said.textContent = `${model.get("measure")}; red is above 0, blue below, full colour at ${model.get("limit")}`;
    for (const mark of board.querySelectorAll(".iu-mark")) mark.hidden = true;
  }

  function point(event, row) {
    const box = event.currentTarget.getBoundingClientRect();
    const share = (at, start, size) => Math.min(0.999, Math.max(0, (at - start) / size));
    place = { row, x: share(event.clientX, box.left, box.width), y: share(event.clientY, box.top, box.height) };
    say();
  }

  function move(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!steps[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    const [right, down] = steps[event.key],
      last = model.get("images").length - 1;
    const cell = (share) => Math.floor(share * STEPS);
    const x = Math.min(STEPS - 1, Math.max(0, cell(place.x) + right));
    let y = cell(place.y) + down,
      row = place.row;
    if (y < 0 && row > 0) [row, y] = [row - 1, STEPS - 1];
    if (y >= STEPS && row < last) [row, y] = [row + 1, 0];
    y = Math.min(STEPS - 1, Math.max(0, y));
    place = { row, x: (x + 0.5) / STEPS, y: (y + 0.5) / STEPS };
    say();
  }

  function framed(image, alt, map, row) {
    const box = heat.frame(image, alt, map, model.get("limit"));
    const mark = document.createElement("span");
    mark.className = "iu-mark";
    mark.dataset.row = row;
    box.append(mark);
    box.addEventListener("pointermove", (event) => point(event, row));
    return box;
  }

  function figure(content, name, note, link) {
    const node = document.createElement("figure");
    const words = document.createElement("figcaption");
    const title = document.createElement(link ? "a" : "span");
    if (link) title.href = link;
    title.textContent = name;
    words.append(title, note ? ` ${note}` : "");
    node.append(content, words);
    return node;
  }

  function draw() {
    const units = model.get("units");
    board.replaceChildren(
      ...model.get("images").map(({ image, alt, maps }, row) => {
        const line = document.createElement("div");
        const plain = document.createElement("img");
        line.className = "iu-images";
        plain.className = "iu-plain";
        plain.src = image;
        plain.alt = alt;
        line.append(
          figure(plain, alt),
          ...units.map(({ name, note, link }, k) => figure(framed(image, `${name} on ${alt}`, maps[k], row), name, note, link)),
        );
        return line;
      }),
    );
    place = { row: 0, x: 0.5, y: 0.5 };
    board.setAttribute("aria-label", `maps of ${units.map(({ name }) => name).join(", ")}; arrow keys go from place to place`);
    rest();
  }

  board.addEventListener("keydown", move);
  board.addEventListener("pointerleave", rest);
  board.addEventListener("focusout", rest);
  el.classList.add("iu");
  el.replaceChildren(board, said);
  model.on("change:images", draw);
  draw();
}

export default { render };
