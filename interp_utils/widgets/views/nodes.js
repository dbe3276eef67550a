// Nodes: what the views build their parts of.

// An element with a class and what stands in it, texts or elements.
function make(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

export default { make };
