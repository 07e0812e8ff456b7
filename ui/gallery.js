// The pictures, newest first, those in the making before them.
import { $, button, eachFrame, el, icon, reconcile, show, text } from "./dom.js";
import { loadOlder } from "./live.js";
import { showWhenNear } from "./picture.js";
import { watch } from "./queue.js";
import { active, on, removePicture, store } from "./store.js";
import { usePrompt } from "./compose.js";
import { startFrom } from "./input.js";
import { openViewer } from "./viewer.js";

const ideas = ["a raccoon on a purple background", "a lighthouse", "a green frog on a yellow background", "an octopus on a blue background"];
const STEP = 120; // tiles that are added at a time
const tiles = new Map(), making = new Map();
let shown = STEP;

const words = () => $("search").value.toLowerCase().split(/\s+/).filter(Boolean);

/** All pictures that match the search, newest first. */
export function pictures() {
  const wanted = words();
  if (wanted.length === 0) return store.pictures;
  return store.pictures.filter((p) => {
    p.about ??= `${p.prompt} ${p.model} ${p.seed} ${p.width}x${p.height}`.toLowerCase();
    return wanted.every((w) => p.about.includes(w));
  });
}

/** What the viewer goes through: tasks under way, then pictures. */
export const shownTasks = () => (words().length > 0 ? [] : active());

/* --- tiles --- */

function tile(picture) {
  if (tiles.has(picture.id)) return tiles.get(picture.id);
  const { id, prompt, seed, width, height } = picture;
  const image = el("img", { alt: "", decoding: "async", width, height });
  showWhenNear(image, picture.url);
  // What the server no longer has is not shown.
  image.addEventListener("error", () => {
    if (store.state === "on") removePicture(id);
  });
  const node = el("li", { vars: { "--a": width / height }, data: { id } },
    button([image, el("span", { class: "caption", "aria-hidden": "true" }, prompt)], () => openViewer(id), { class: "tile", "aria-label": `${prompt}, seed ${seed}`, data: { id } }),
    button(icon("picture"), () => startFrom(picture), { class: "start icon-only", tabindex: "-1", "aria-label": `Start from: ${prompt}, seed ${seed}`, title: "Start from this picture (I)" }));
  node.addEventListener("dragstart", (event) => event.dataTransfer.setData("text/uri-list", new URL(picture.url, location.href).href));
  if (store.loaded && Date.now() - Date.parse(store.tasks.get(picture.task)?.finished_at ?? 0) < 5000) node.classList.add("fresh");
  tiles.set(id, node);
  return node;
}

/** A place for a picture that is being made: what it looks like by now, and how far it is. */
function place(task) {
  if (!making.has(task.id)) {
    const { image, words, bar, line, update } = watch(task);
    const node = el("li", { class: "making", vars: { "--a": task.request.width / task.request.height } },
      button(image, () => openViewer(task.id), { class: "tile", "aria-label": `Watch: ${task.request.prompt}`, data: { id: task.id } }),
      el("div", { class: "veil", "aria-hidden": "true" }, words, line, bar));
    making.set(task.id, { node, update(t) {
      update(t);
      node.classList.toggle("seen", Boolean(t.preview));
    } });
  }
  making.get(task.id).update(task);
  return making.get(task.id).node;
}

export function focusTile(id) {
  const node = tiles.get(id) ?? making.get(id)?.node;
  node?.querySelector("button").focus();
}

/* --- the list --- */

function drawNow() {
  const found = pictures(), busy = shownTasks(), searching = words().length > 0;
  reconcile($("tiles"), [...busy.map(place), ...found.slice(0, shown).map(tile)]);
  for (const id of making.keys()) if (!busy.some((t) => t.id === id)) making.delete(id);
  if (tiles.size > found.length + 500) for (const id of tiles.keys()) if (!store.pictures.some((p) => p.id === id)) tiles.delete(id);
  const nothing = found.length === 0 && busy.length === 0, more = found.length > shown || Boolean(store.older);
  for (const id of ["empty", "first"]) show($(id), nothing && !searching && store.loaded);
  show($("no-match"), found.length === 0 && searching && !store.older);
  show($("older"), more);
  sight.disconnect(); // observed anew it tells of itself anew: where it is in sight still, there is room for more
  sight.observe($("older"));
  show($("search"), searching || !nothing || document.activeElement === $("search"));
  text($("picture-count"), found.length > 0 ? `${found.length}${store.older ? "+" : ""}` : "");
}

const sight = new IntersectionObserver((entries) => entries[0].isIntersecting && further(), { rootMargin: "600px" });
const draw = eachFrame(drawNow);

function further() {
  if (pictures().length > shown) {
    shown += STEP;
    draw();
  } else if (store.older) loadOlder();
}

function search() {
  shown = STEP;
  draw();
  if (words().length > 0 && store.older) loadOlder(true);
}

/** Arrow keys go from picture to picture as they lie; up and down to the nearest one in the next row. */
function keys(event) {
  const all = [...$("tiles").querySelectorAll("button.tile")], at = all.indexOf(document.activeElement);
  if (at < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  let to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: all.length - 1 }[event.key];
  if (event.key === "i") {
    all[at].parentNode.querySelector(".start")?.click();
    event.preventDefault();
    return;
  }
  if (event.key === "ArrowUp" || event.key === "ArrowDown") {
    const down = event.key === "ArrowDown" ? 1 : -1, box = (n) => n.getBoundingClientRect(), from = box(all[at]);
    const far = (n) => 1000 * down * (box(n).top - from.top) + Math.abs(box(n).left + box(n).width / 2 - from.left - from.width / 2); // the next row before all else
    to = all.indexOf(all.filter((n) => down * (box(n).top - from.top) > 4).sort((a, b) => far(a) - far(b))[0]);
  }
  if (to === undefined || !all[to]) return;
  event.preventDefault();
  all[to].focus();
}

export function start() {
  for (const id of ["ideas", "first"]) $(id).append(...ideas.map((idea) => button(idea, () => usePrompt(idea), { class: "idea" })));
  $("search").addEventListener("input", search);
  $("tiles").addEventListener("keydown", keys);
  $("older").addEventListener("click", further);
  on("task pictures state", draw);
  on("progress", (task) => making.get(task.id)?.update(task));
  setInterval(() => {
    for (const task of active()) making.get(task.id)?.update(task);
  }, 1000);
}
