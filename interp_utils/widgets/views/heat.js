// Heat: paints a patch map over a picture, red for positive and blue for negative, as strong as the value. Other views lean on it.

const COLOURS = { more: [178, 24, 43], less: [33, 102, 172] };

// A picture under a canvas that holds one dot a patch; the browser enlarges it. limit: the value of full colour.
function frame(image, alt, map, limit) {
  const box = document.createElement("div");
  const picture = document.createElement("img");
  const canvas = document.createElement("canvas");
  box.className = "iu-map";
  picture.src = image;
  picture.alt = alt;
  canvas.width = map[0].length;
  canvas.height = map.length;
  canvas.setAttribute("aria-hidden", "true"); // its numbers are said elsewhere
  const context = canvas.getContext("2d");
  const dots = context.createImageData(canvas.width, canvas.height);
  map.flat().forEach((value, k) => {
    const strength = Math.min(1, Math.abs(value) / (limit || 1));
    dots.data.set([...(value < 0 ? COLOURS.less : COLOURS.more), Math.round(204 * strength)], 4 * k);
  });
  context.putImageData(dots, 0, 0);
  box.append(picture, canvas);
  return box;
}

export default { frame };
