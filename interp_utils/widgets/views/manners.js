// Manners of an explorer: a busy sign as soon as a control is moved, whatever the kernel does; a name for every slider; photos made
// small before they are sent; and keys that stay in the explorer (JupyterLab would cut the cell at "x", and make it Markdown at "m").
//
// model: live, set here to say that views run; answers, how often the kernel has answered; upload, the number of the control that
// takes a file, or "".

import shrink from "./shrink.js";

function render({ model, el }) {
  let box = null;
  const settled = new Map(); // where each slider stood when the kernel last answered

  const sliders = () => [...box.querySelectorAll("[role=slider]")];
  const standing = (slider) => slider.getAttribute("aria-valuenow");

  // A slider tells nobody that it was moved; a press that leaves it where it is gets no answer.
  function slid() {
    if (box && sliders().some((slider) => standing(slider) !== settled.get(slider))) busy();
  }

  function busy() {
    box.classList.add("iu-waiting");
    box.setAttribute("aria-busy", "true");
  }

  function answered() {
    if (!box) return;
    box.classList.remove("iu-waiting");
    box.setAttribute("aria-busy", "false");
    for (const slider of sliders()) settled.set(slider, standing(slider));
  }

  function nameSliders() {
    for (const slider of sliders()) if (!settled.has(slider)) settled.set(slider, standing(slider));
    for (const control of box.querySelectorAll(".widget-inline-hbox")) {
      const name = control.querySelector(".widget-label")?.textContent;
      for (const part of control.querySelectorAll("[role=slider], .widget-readout, input, select")) {
        if (name && !part.labels?.length) part.setAttribute("aria-label", name);
      }
    }
  }

  // In the place of the button's own dialog, whose file goes to the kernel whole.
  async function offer(event) {
    if (!event.target.closest(".widget-upload")) return;
    event.stopPropagation();
    const upload = await model.widget_manager.get_model(model.get("upload"));
    const chooser = Object.assign(document.createElement("input"), { type: "file", accept: upload.get("accept") });
    chooser.addEventListener("change", async () => {
      busy();
      const file = await shrink.shrink(chooser.files[0]);
      const { name, type, size, lastModified: last_modified } = file;
      upload.set({ value: [{ content: await file.arrayBuffer(), name, type, size, last_modified }], error: "" });
      upload.save_changes();
    });
    chooser.click();
  }

  // What is rendered here stands in the page a moment later.
  function settle(tries) {
    box = el.closest(".iu-explorer");
    if (!box) {
      if (tries) setTimeout(settle, 50, tries - 1);
      return;
    }
    // JupyterLab looks for this at the part that has the focus itself.
    box.addEventListener("focusin", (event) => event.target.setAttribute("data-lm-suppress-shortcuts", "true"));
    box.addEventListener("change", busy);
    if (model.get("upload")) box.addEventListener("click", offer, true);
    box.addEventListener("keydown", (event) => event.target.matches("[role=slider]") && slid());
    new MutationObserver(nameSliders).observe(box, { childList: true, subtree: true });
    nameSliders();
  }

  model.on("change:answers", answered);
  document.addEventListener("pointerup", slid); // wherever the pointer was let go
  settle(100);
  model.set("live", true);
  model.save_changes();
  return () => document.removeEventListener("pointerup", slid);
}

export default { render };
