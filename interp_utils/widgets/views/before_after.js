// Before and after: an edited image over the one it was made of. A slider, or a pointer that is dragged over them, wipes from one to
// the other; below stand maps on one scale.
//
// model: before, after (addresses), alt; maps, [{name, map}], each [rows][columns] numbers.

import nodes from "./nodes.js";
import patch_map from "./patch_map.js";

const { make } = nodes;

function render({ model, el }) {
  const before = make("img", ""),
    after = make("img", "iu-after"),
    line = make("span", "iu-edge");
  const wipe = make("div", "iu-wipe", before, after, line);
  const slider = make("input", "");
  const label = make("label", "iu-wiper", "before ", slider, " after");
  const maps = make("div", "iu-images");
  slider.type = "range";
  slider.min = 0;
  slider.max = 100;
  slider.value = 50;
  slider.setAttribute("aria-label", "edge between before, on its left, and after");

  function show() {
    after.style.clipPath = `inset(0 0 0 ${slider.value}%)`;
    line.style.left = `${slider.value}%`;
    slider.setAttribute("aria-valuetext", `${slider.value} percent before`);
  }

  function drag(event) {
    if (!event.buttons) return;
    const box = wipe.getBoundingClientRect();
    slider.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    show();
  }

  function moved(event) {
    event.stopPropagation(); // not for the explorer: nothing is asked of the kernel
    show();
  }

  function grasp(event) {
    event.preventDefault();
    drag(event);
  }

  function draw() {
    before.src = model.get("before");
    after.src = model.get("after");
    before.alt = `before: ${model.get("alt")}`;
    after.alt = `after: ${model.get("alt")}`;
    wipe.setAttribute("aria-label", model.get("alt"));
    const shown = model.get("maps");
    const limit = Math.max(...shown.flatMap(({ map }) => map.flat().map(Math.abs)), 0);
    maps.replaceChildren(
      ...shown.map(({ name, map }, k) => {
        const place = make("div", "");
        const image = model.get(k ? "after" : "before");
        const values = { image, alt: name, maps: [map], picked: 0, names: [], limit };
        patch_map.render({ model: { get: (trait) => values[trait], on() {} }, el: place });
        return make("figure", "", place, make("figcaption", "", name));
      }),
    );
    show();
  }

  for (const event of ["change", "input"]) slider.addEventListener(event, moved);
  wipe.setAttribute("role", "group");
  wipe.addEventListener("pointerdown", grasp);
  wipe.addEventListener("pointermove", drag);
  el.classList.add("iu");
  el.replaceChildren(wipe, label, maps);
  model.on("change:maps", draw);
  draw();
}

export default { render };
