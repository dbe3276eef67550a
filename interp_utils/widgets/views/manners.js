// Manners of an explorer: a busy sign as soon as a control is moved, whatever the kernel does; of fast moves the last alone is drawn;
// a name for every slider; photos made small before they are sent; and keys that stay in the explorer (JupyterLab would cut the cell
// at "x", and make it Markdown at "m").
//
// model: live, set here to say that views run; answers, how often the kernel has answered; parts, the numbers of all that a reader
// can move; moving, set here while moves wait; upload, the number of the control that takes a file, or ""; finer, whether the kernel
// can draw what is shown in more detail; rested, set here once a reader has rested for that.

import shrink from "./shrink.js";

const REST = 700; // ms without a move before something is drawn in more detail
const MOVED = new Set(["value", "index", "picked"]); // traits in which a reader's moves are kept

// While the kernel draws, what is moved waits; then each part that was moved tells only where it stands last, all in one message.
function initialize({ model }) {
  const held = new Map(); // part → what a reader has set there, what was moved last at the end
  let drawing = false;

  function letGo() {
    drawing = true;
    for (const [part, values] of held) part.set(values); // the answer to an earlier move may have written over it
    model.send({ moves: [...held].map(([part, values]) => [part.model_id, values]) });
    held.clear();
    model.set("moving", false);
  }

  function hold(part) {
    const send = part.sync.bind(part);
    part.sync = (method, _, options = {}) => {
      const values = options.attrs ?? {},
        names = Object.keys(values);
      if (method !== "patch" || part._state_lock || !names.length || !names.every((name) => MOVED.has(name)))
        return send(method, part, options);
      const all = { ...held.get(part), ...values };
      held.delete(part);
      held.set(part, all);
      if (drawing) model.set("moving", true);
      else letGo();
    };
  }

  model.on("msg:custom", () => {
    drawing = false;
    if (held.size) letGo();
  });
  for (const number of model.get("parts")) {
    Promise.resolve(model.widget_manager.get_model(number)).then(hold, () => {}); // what is not there cannot be moved
  }
}

function render({ model, el }) {
  let box = null;
  let rest;
  const settled = new Map(); // where each slider stood when the kernel last answered

  const sliders = () => [...box.querySelectorAll("[role=slider]")];
  const standing = (slider) => slider.getAttribute("aria-valuenow");

  // A slider tells nobody that it was moved; a press that leaves it where it is gets no answer.
  function slid() {
    if (box && sliders().some((slider) => standing(slider) !== settled.get(slider))) busy();
  }

  function busy() {
    clearTimeout(rest);
    box.classList.add("iu-waiting");
    box.setAttribute("aria-busy", "true");
  }

  function answered() {
    if (!box || model.get("moving")) return;
    clearTimeout(rest);
    if (model.get("finer")) rest = setTimeout(rested, REST);
    box.classList.remove("iu-waiting");
    box.setAttribute("aria-busy", "false");
    for (const slider of sliders()) settled.set(slider, standing(slider));
  }

  function rested() {
    model.set("rested", model.get("rested") + 1);
    model.save_changes();
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

  // A notebook that is opened again shows what it saved, with no kernel to answer.
  async function saved() {
    const part = await model.widget_manager.get_model(model.get("parts")[0]);
    if (part.comm_live) return;
    box.classList.add("iu-saved");
    box.firstElementChild.inert = true;
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
    saved();
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

export default { initialize, render };
