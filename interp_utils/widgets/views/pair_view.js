// Pair view: pairs of images that differ in one thing, and a unit's answer to both. Below, a line for each pair leads from the answer
// to the twin to the answer to the true image, its dot; point at a pair of images, or go there with Tab, and its line stands out.
//
// model: pairs, [{on, off (addresses)}], those shown; answers, [[on, off]] of all pairs, the shown ones first; text, what is true of
// the first of each pair; unit, its name.

import nodes from "./nodes.js";

const { make } = nodes;
const signed = (value) => (value < 0 ? "−" : "+") + Number(Math.abs(value).toPrecision(3));

function render({ model, el }) {
  const said = make("p", "iu-said");
  const images = make("div", "iu-images iu-pairs");
  const strip = make("div", "iu-strip");
  let lines = [];
  images.setAttribute("role", "group");
  strip.setAttribute("role", "img");

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  function rest() {
    const answers = model.get("answers");
    const change = mean(answers.map(([on, off]) => on - off));
    const higher = answers.filter(([on, off]) => on > off).length;
    said.textContent =
      `${model.get("unit")} answers higher to “${model.get("text")}” in ${higher} of ${answers.length} pairs, ` +
      `by ${signed(change)} on average`;
    for (const line of lines) line.classList.remove("iu-picked");
  }

  function say(k) {
    const [on, off] = model.get("answers")[k];
    said.textContent = `pair ${k + 1}: ${signed(on)} where it is true, ${signed(off)} in its twin, ${signed(on - off)} by it`;
    for (const [other, line] of lines.entries()) line.classList.toggle("iu-picked", other === k);
  }

  function pair({ on, off }, k) {
    const [high, low] = model.get("answers")[k];
    const shown = [
      [on, "true", high],
      [off, "twin", low],
    ].map(([address, name, value]) => {
      const picture = make("img", "iu-half");
      picture.src = address;
      picture.alt = `pair ${k + 1}, ${name === "true" ? `“${model.get("text")}”` : "its twin"}`;
      return make("div", "", picture, make("div", "iu-legend", `${name} ${signed(value)}`));
    });
    const node = make("div", "iu-pair", ...shown);
    node.tabIndex = 0;
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", `pair ${k + 1}: difference ${signed(high - low)}`);
    node.addEventListener("pointerenter", () => say(k));
    node.addEventListener("focus", () => say(k));
    return node;
  }

  function draw() {
    const answers = model.get("answers"),
      all = answers.flat();
    const least = Math.min(...all),
      most = Math.max(...all);
    const across = (value) => (100 * (value - least)) / (most - least || 1);
    lines = answers.map(([on, off]) => {
      const bar = make("span", "iu-between"),
        dot = make("span", "iu-dot");
      bar.style.left = `${across(Math.min(on, off))}%`;
      bar.style.width = `${across(Math.max(on, off)) - across(Math.min(on, off))}%`;
      dot.style.left = `${across(on)}%`;
      return make("div", on > off ? "" : "iu-against", bar, dot);
    });
    strip.replaceChildren(...lines);
    strip.setAttribute("aria-label", `answers to all ${answers.length} pairs, from ${signed(least)} to ${signed(most)}`);
    images.replaceChildren(...model.get("pairs").map(pair));
    images.setAttribute("aria-label", `pairs for “${model.get("text")}”, ${model.get("unit")}`);
    rest();
  }

  images.addEventListener("pointerleave", rest);
  images.addEventListener("focusout", rest);
  el.classList.add("iu");
  el.replaceChildren(images, strip, said);
  model.on("change:answers", draw);
  model.on("change:pairs", draw);
  draw();
}

export default { render };
