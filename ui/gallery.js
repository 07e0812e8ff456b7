// The pictures, newest first, those in the making before them.
import { $, eachFrame, el, reconcile, show, text } from "./dom.js";
import { loadOlder } from "./live.js";
import { describe } from "./queue.js";
import { active, finished, fraction, on, store } from "./store.js";
import { usePrompt } from "./compose.js";
import { openViewer } from "./viewer.js";

const ideas = ["a raccoon on a purple background", "a lighthouse", "a green frog on a yellow background", "an octopus on a blue background"];
const tiles = new Map(), making = new Map(), gone = new Set();

/** All pictures that match the search, newest first: {id, url, seed, task}. */
export function pictures() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), out = [];
  for (const task of finished())
    for (const image of task.images) {
      if (gone.has(image.id)) continue;
      const about = `${task.request.prompt} ${task.model} ${image.seed} ${task.request.width}x${task.request.height}`.toLowerCase();
      if (words.every((w) => about.includes(w))) out.push({ ...image, task });
    }
  return out;
}

function tile(picture) {
  if (tiles.has(picture.id)) return tiles.get(picture.id);
  const { request } = picture.task;
  const image = el("img", { src: picture.url, alt: "", loading: "lazy", decoding: "async", width: request.width, height: request.height });
  // What the server no longer has is not shown.
  image.addEventListener("error", () => {
    if (store.state === "on") remove(picture.id);
  });
  const node = el("li", { vars: { "--a": request.width / request.height } },
    el("button", { type: "button", class: "tile", "aria-label": `${request.prompt}, seed ${picture.seed}`, data: { id: picture.id }, onclick: () => openViewer(picture.id) },
      image, el("span", { class: "caption", "aria-hidden": "true" }, request.prompt)));
  if (Date.now() - Date.parse(picture.task.finished_at) < 5000) node.classList.add("fresh");
  tiles.set(picture.id, node);
  return node;
}

/** A place for a picture that is being made. */
function place(task) {
  if (!making.has(task.id)) {
    const line = el("span", { class: "fine" }), bar = el("i");
    const node = el("li", { class: "making", vars: { "--a": task.request.width / task.request.height }, "aria-hidden": "true" },
      el("div", { class: "tile" }, el("span", { class: "words" }, task.request.prompt), line, el("span", { class: "progress" }, bar)));
    making.set(task.id, { node, update(t) {
      bar.style.setProperty("--done", fraction(t));
      text(line, describe(t));
    } });
  }
  making.get(task.id).update(task);
  return making.get(task.id).node;
}

export function remove(id) {
  gone.add(id);
  tiles.delete(id);
  draw();
}

export function focusTile(id) {
  tiles.get(id)?.querySelector("button").focus();
}

function drawNow() {
  const found = pictures(), busy = active(), searching = $("search").value.trim() !== "";
  reconcile($("tiles"), [...(searching ? [] : busy.map(place)), ...found.map(tile)]);
  for (const id of making.keys()) if (!busy.some((t) => t.id === id)) making.delete(id);
  const nothing = found.length === 0 && busy.length === 0;
  show($("empty"), nothing && !searching && Boolean(store.loaded));
  show($("no-match"), found.length === 0 && searching);
  show($("older"), store.older && !searching);
  show($("search"), searching || found.length > 0 || document.activeElement === $("search"));
  text($("picture-count"), found.length > 0 ? `${found.length}${store.older ? "+" : ""}` : "");
}

const draw = eachFrame(drawNow);

/** Arrow keys go from picture to picture as they lie; up and down to the nearest one in the next row. */
function keys(event) {
  const all = [...$("tiles").querySelectorAll("button.tile")], at = all.indexOf(document.activeElement);
  if (at < 0) return;
  let to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const from = all[at].getBoundingClientRect(), x = from.left + from.width / 2, down = event.key === "ArrowDown" ? 1 : -1;
    let top = null, best = Infinity;
    for (let i = at + down; all[i]; i += down) {
      const r = all[i].getBoundingClientRect();
      if (Math.abs(r.top - from.top) < 4) continue;
      top ??= r.top;
      if (Math.abs(r.top - top) > 4) break;
      const distance = Math.abs(r.left + r.width / 2 - x);
      if (distance < best) [best, to] = [distance, i];
    }
  }
  if (to === undefined || !all[to]) return;
  event.preventDefault();
  all[to].focus();
}

export function start() {
  text($("origin"), location.origin);
  $("ideas").append(...ideas.map((idea) => el("button", { type: "button", class: "idea", onclick: () => usePrompt(idea) }, idea)));
  $("search").addEventListener("input", draw);
  $("tiles").addEventListener("keydown", keys);
  $("older").addEventListener("click", () => loadOlder().catch(() => {}));
  on("task", draw);
  on("progress", (task) => making.get(task.id)?.update(task));
  setInterval(() => {
    for (const task of active()) making.get(task.id)?.update(task);
  }, 1000);
}
