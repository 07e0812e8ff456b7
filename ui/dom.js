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

export const button = (label, onclick, more) => el("button", { type: "button", onclick, ...more }, label);

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
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 8.5h.01",
  brush: "M14.5 6.5l3 3L9 18c-1.5 1.5-4 1.5-5.5 1 1-.5 1-1 1-2.5s.5-2 1.5-3zM14.5 6.5L18 3l3 3-3.5 3.5",
  undo: "M9 5L4 10l5 5M4 10h10a6 6 0 0 1 0 10h-3",
  redo: "M15 5l5 5-5 5M20 10H10a6 6 0 0 0 0 10h3",
  again: "M4 12a8 8 0 1 0 2.5-5.8L4 8.5M4 4v4.5h4.5M12 8v4l2.5 2",
  dice: "M7 4h10a3 3 0 0 1 3 3v10a3 3 0 0 1-3 3H7a3 3 0 0 1-3-3V7a3 3 0 0 1 3-3zM8.5 8.5h.01M15.5 8.5h.01M12 12h.01M8.5 15.5h.01M15.5 15.5h.01",
  key: "M15 9h.01M14 3a7 7 0 0 0-6.7 9L3 16.3V21h4.7v-2.5h2.5V16l1.8-1.8A7 7 0 1 0 14 3z",
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

/** A line at the edge for a few seconds. `kind` "bad" stays longer, as does one with a deed: {label, run}, what can be done about it. */
export function toast(message, kind = "", deed = null) {
  const node = el("div", { class: "toast", data: { kind } }, el("span", null, message));
  const box = $("toasts");
  if (deed)
    node.append(button(deed.label, () => {
      node.remove();
      deed.run();
    }, { class: "link" }));
  while (box.children.length > 3) box.firstChild.remove();
  box.append(node);
  setTimeout(() => node.remove(), kind === "bad" || deed ? 9000 : 4000);
}

/** Says under its field what is wrong with the control called `id`; "": nothing any more. False: there is no such control. */
export function blame(id, message) {
  const control = $(id), field = control?.closest(".field");
  if (!field) return false;
  $(`${id}-fault`)?.remove();
  if (message) field.append(el("p", { class: "fault", id: `${id}-fault` }, message));
  for (const [name, value] of [["aria-invalid", "true"], ["aria-describedby", `${id}-fault`]]) {
    if (message) control.setAttribute(name, value);
    else control.removeAttribute(name);
  }
  return true;
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
