// The little that is needed to make elements and to keep a list of them in step with data.

/** An element. In `props`, `class`, `text` and functions (listeners, by the event's name) are special; the rest are attributes. */
export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "text") node.textContent = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Sets a text only where it differs, so that selections and screen readers are left alone. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** Sets or removes an attribute only where it differs. */
export function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/**
 * Makes the children of `parent` those of `items`, in order; a child that stays is the same element as before.
 * `make(item)` returns an element, `update(element, item)` brings it up to date.
 */
export function keyed(parent, items, key, make, update) {
  const had = (parent.keyed ??= new Map());
  const wanted = new Set(items.map(key));
  for (const [id, node] of had) {
    if (!wanted.has(id)) {
      node.remove();
      had.delete(id);
    }
  }
  let next = parent.firstElementChild;
  for (const item of items) {
    const id = key(item);
    let node = had.get(id);
    if (!node) had.set(id, (node = make(item)));
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
    update(node, item);
  }
}

export const $ = (id) => document.getElementById(id);
