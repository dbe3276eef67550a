// Unit card: the texts of a head or a neuron with a bar each, and images with a patch map each.
//
// model: label, what the bars measure; texts, [{text, value (null for none), link, images}]; images, those of the whole unit;
// percent, whether values are shares. An image is {image (address), alt, caption, map, link}; all but the first two may be left out.

import nodes from "./nodes.js";
import patch_map from "./patch_map.js";

const { make } = nodes;

function render({ model, el }) {
  const link = (words, address) => {
    if (!address) return words;
    const node = make("a", "", words);
    node.href = address;
    return node;
  };
  const sign = (value) => (value < 0 ? "−" : "+") + Number(Math.abs(value).toPrecision(2));
  const shown = (value) => (model.get("percent") ? `${(100 * value).toFixed(1)} %` : sign(value));

  function picture(image) {
    const place = make("div", "");
    if (image.map) {
      const values = { image: image.image, alt: image.alt, maps: [image.map], picked: 0, names: [], limit: image.limit ?? 0 };
      patch_map.render({ model: { get: (name) => values[name], on() {} }, el: place });
    } else {
      const plain = make("img", "iu-plain");
      plain.src = image.image;
      plain.alt = image.alt;
      place.append(plain);
    }
    return make("figure", "", place, make("figcaption", "", link(image.caption ?? image.alt, image.link)));
  }

  function draw() {
    const texts = model.get("texts");
    const most = Math.max(...texts.map((each) => Math.abs(each.value))) || 1;
    const lines = texts.map((each) => {
      const bar = make("span", each.value < 0 ? "iu-bar iu-negative" : "iu-bar");
      bar.style.width = `${(100 * Math.abs(each.value)) / most}%`;
      const value = each.value === null ? [] : [make("b", "", shown(each.value)), " "];
      const words = make("div", "iu-words", ...value, link(each.text, each.link));
      const row = make("li", "", words, ...(value.length ? [make("div", "iu-track", bar)] : []));
      if (each.images?.length) row.append(make("div", "iu-images", ...each.images.map(picture)));
      return row;
    });
    const label = make("p", "iu-legend", model.get("label"));
    el.classList.add("iu", "iu-card");
    el.replaceChildren(label, make("ol", "iu-texts", ...lines));
    if (model.get("images").length) el.append(make("div", "iu-images", ...model.get("images").map(picture)));
  }

  model.on("change:texts", draw);
  model.on("change:images", draw);
  draw();
}

export default { render };
