// Manners of an explorer: a busy sign as soon as a control is moved, whatever the kernel does; a name for every slider; and keys
// that stay in the explorer (JupyterLab would cut the cell at "x", and make it Markdown at "m").
//
// model: live, set here to say that views run; answers, how often the kernel has answered.

function render({ model, el }) {
  let box = null;

  function busy() {
    box.classList.add("iu-waiting");
    box.setAttribute("aria-busy", "true");
  }

  function answered() {
    box?.classList.remove("iu-waiting");
    box?.setAttribute("aria-busy", "false");
  }

  function nameSliders() {
    for (const control of box.querySelectorAll(".widget-inline-hbox")) {
      const name = control.querySelector(".widget-label")?.textContent;
      for (const part of control.querySelectorAll("[role=slider], .widget-readout, input, select")) {
        if (name && !part.labels?.length) part.setAttribute("aria-label", name);
      }
    }
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
    box.addEventListener("pointerup", (event) => event.target.closest(".noUi-target") && busy());
    new MutationObserver(nameSliders).observe(box, { childList: true, subtree: true });
    nameSliders();
  }

  model.on("change:answers", answered);
  settle(100);
  model.set("live", true);
  model.save_changes();
}

export default { render };
