// Small helpers around the document. Nothing here parses HTML: text is always text.

export const $ = (id) => document.getElementById(id);

function apply(node, props) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "vars") for (const [k, v] of Object.entries(value)) node.style.setProperty(k, v);
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  return node;
}

/** An element: el("p", {class: "fine", onclick: f, vars: {"--a": 1}}, "text", child, …). */
export function el(tag, props, ...children) {
  const node = apply(document.createElement(tag), props);
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

export function svg(tag, props, ...children) {
  const node = apply(document.createElementNS("http://www.w3.org/2000/svg", tag), props);
  node.append(...children);
  return node;
}

const shapes = {
  close: "M6 6l12 12M18 6L6 18",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  grip: "M9 6h.01M15 6h.01M9 12h.01M15 12h.01M9 18h.01M15 18h.01",
  auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  light: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6L19 19M5 19l1.4-1.4M17.6 6.4L19 5",
  dark: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
};

export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: shapes[name] }));
}

export function show(node, on) {
  if (node.hidden === on) node.hidden = !on;
}

/** Sets the text only where it differs, so that nothing is announced or laid out again. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

/** Makes `nodes` the children of `parent`; those that stay keep their place, their focus and their scroll. */
export function reconcile(parent, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...parent.childNodes]) if (!wanted.has(child)) child.remove();
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
}

/** Calls `f` once before the next frame, however often it is asked for. */
export function eachFrame(f) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      f();
    });
  };
}

/** A line at the edge for a few seconds. `kind` "bad" stays longer. */
export function toast(message, kind = "") {
  const node = el("div", { class: "toast", data: { kind } }, message);
  const box = $("toasts");
  while (box.children.length > 3) box.firstChild.remove();
  box.append(node);
  setTimeout(() => node.remove(), kind === "bad" ? 9000 : 4000);
}

/** To those who listen instead of looking. */
export function say(message) {
  const box = $("say");
  while (box.children.length > 4) box.firstChild.remove();
  box.append(el("p", null, message));
}

export function kept(key, fallback) {
  try {
    return JSON.parse(localStorage.getItem("imagined." + key)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function keep(key, value) {
  try {
    localStorage.setItem("imagined." + key, JSON.stringify(value));
  } catch { /* full or forbidden: it lasts as long as the page */ }
}
