// The host of the views on a page without a kernel: each <div data-view="NAME"> holds its model as JSON and what is seen
// before, or without, this script. Its place in the page is taken by the view.

for (const el of document.querySelectorAll("[data-view]")) {
  const values = JSON.parse(el.querySelector("script[type='application/json']").textContent);
  const heard = {};
  const model = {
    get: (name) => values[name],
    set(name, value) {
      values[name] = value;
      for (const hear of heard[`change:${name}`] ?? []) hear();
    },
    on(event, hear) {
      heard[event] ??= [];
      heard[event].push(hear);
    },
    save_changes() {},
  };
  views[el.dataset.view].render({ model, el });
}
