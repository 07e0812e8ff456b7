// One picture over everything, with its settings; or one in the making. Left and right go through what is shown.
import * as api from "./api.js";
import { useTask } from "./compose.js";
import { $, button, el, icon, say, show, text, toast } from "./dom.js";
import { seconds } from "./format.js";
import { focusTile, pictures, shownTasks } from "./gallery.js";
import { startFrom } from "./input.js";
import { address, livePicture, showPicture } from "./picture.js";
import { readTexts } from "./png.js";
import { stop, watch } from "./queue.js";
import { isActive, on, picturesOf, put, removePicture, store } from "./store.js";

const dialog = $("viewer");
let current = null, parts = null, sure = false;

/** {id, prompt, width, height, seed, url, task: its id}; of a task under way only what it was asked for, and `making`. */
function items() {
  const tasks = shownTasks().map((t) => ({ id: t.id, task: t.id, prompt: t.request.prompt, width: t.request.width, height: t.request.height, making: true }));
  return [...tasks, ...pictures()];
}

async function documentOf(id) {
  if (!store.tasks.has(id)) put(await api.task(id), true);
  return store.tasks.get(id);
}

/* --- deeds --- */

/** The focus goes back at once: the event of the closing comes later, when it may be elsewhere. */
function shut() {
  if (!current) return;
  const { id } = current;
  current = null;
  dialog.close();
  focusTile(id);
}

function leave() {
  current = null; // the focus goes to the form, not back
  dialog.close();
  document.dispatchEvent(new CustomEvent("view", { detail: "compose" }));
  $("prompt").focus();
}

async function takeSettings() {
  const { task, seed } = current;
  try {
    useTask(await documentOf(task), seed);
    leave();
  } catch (fault) {
    toast(fault.message, "bad");
  }
}

/** As they stand in the file. */
async function settingsText(url) {
  try {
    return (await readTexts(await api.bytes(url)))?.get("parameters") ?? "";
  } catch (fault) {
    toast(fault.message, "bad");
    return "";
  }
}

async function copy() {
  const words = await settingsText(current.url);
  if (words === "") return;
  try {
    await navigator.clipboard.writeText(words);
  } catch { // not allowed, or not over plain HTTP
    const area = el("textarea", { class: "sr" });
    area.value = words;
    dialog.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  text(parts.copy, "Copied");
  say("Settings copied.");
  setTimeout(() => text(parts.copy, "Copy settings"), 1500);
}

async function save() {
  const { url, prompt, seed } = current, link = el("a", { download: `${prompt.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "picture"}-${seed}.png` });
  try {
    link.href = await address(url);
    link.click();
  } catch (fault) {
    toast(fault.message, "bad");
  }
}

async function destroy() {
  if (!sure) {
    sure = true;
    text(parts.destroy, "Delete for good?");
    parts.destroy.classList.add("danger");
    return;
  }
  const picture = current, list = items(), at = list.findIndex((p) => p.id === picture.id);
  try {
    await api.deletePicture(picture.id);
  } catch (fault) {
    if (fault.status !== 404) return toast(fault.message, "bad");
  }
  removePicture(picture.id);
  say("Deleted.");
  const next = list[at + 1] ?? list[at - 1];
  if (next) look(next);
  else shut();
}

/* --- drawing --- */

function build() {
  parts = {
    image: el("img", { alt: "" }),
    prompt: el("p", { class: "prompt" }),
    negative: el("p", { class: "negative" }),
    facts: el("dl"),
    way: el("div", { class: "way" }),
    place: el("p", { class: "fine place" }),
    before: button(icon("left"), () => step(-1), { class: "step before", "aria-label": "Previous picture" }),
    after: button(icon("right"), () => step(1), { class: "step after", "aria-label": "Next picture" }),
    use: button("Use settings", takeSettings, { class: "primary" }),
    start: button("Start from this picture", () => {
      startFrom(current);
      leave();
    }, { class: "wide", "aria-keyshortcuts": "i" }),
    copy: button("Copy settings", copy),
    save: button("Save", save),
    destroy: button("Delete", destroy),
    stop: button("Cancel this picture", () => stop(store.tasks.get(current.task))),
  };
  parts.image.addEventListener("dragstart", (event) => current?.url && event.dataTransfer.setData("text/uri-list", new URL(current.url, location.href).href));
  dialog.append(
    el("div", { class: "stage", onclick: (event) => { if (event.target === event.currentTarget) shut(); } }, parts.before, parts.image, parts.after),
    el("div", { class: "about" }, el("div", { class: "bar" }, parts.place, button(icon("close"), shut, { class: "quiet icon-only", "aria-label": "Close" })),
      parts.prompt, parts.negative, parts.way, parts.facts, el("div", { class: "deeds" }, parts.use, parts.start, parts.copy, parts.save, parts.destroy, parts.stop)));
  dialog.addEventListener("keydown", keys);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    shut();
  });
  dialog.addEventListener("close", () => { if (!dialog.open) shut(); });
  swipe(dialog.firstChild);
}

function facts(task, item) {
  const { request, model, metrics } = task, rows = [["Model", model], ["Size", `${request.width} × ${request.height}`], ["Steps", request.num_inference_steps]];
  if (item.seed !== undefined) rows.push(["Seed", item.seed]);
  if (request.guidance_scale > 1) rows.push(["Guidance", request.guidance_scale]);
  if (request.true_cfg_scale > 1) rows.push(["True CFG", request.true_cfg_scale]);
  if (request.image) rows.push(["Started from", request.mask ? "a picture, where painted" : "a picture"], ["Strength", request.strength]);
  const took = metrics.encode_seconds + metrics.denoise_seconds + metrics.decode_seconds;
  if (took > 0 && !item.making) rows.push(["Took", seconds(took)]);
  if (task.finished_at) rows.push(["Made", new Date(task.finished_at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })]);
  return rows.flatMap(([name, value]) => [el("dt", null, name), el("dd", null, String(value))]);
}

async function lookCloser(item) {
  const task = await documentOf(item.task).catch(() => null);
  if (current !== item || !task) return;
  text(parts.negative, task.request.negative_prompt ? `Without: ${task.request.negative_prompt}` : "");
  show(parts.negative, Boolean(task.request.negative_prompt));
  parts.facts.replaceChildren(...facts(task, item));
}

function look(item) {
  const list = items(), at = list.findIndex((p) => p.id === item.id);
  current = item;
  sure = false;
  text(parts.destroy, "Delete");
  parts.destroy.classList.remove("danger");
  for (const name of ["start", "copy", "save", "destroy"]) show(parts[name], !item.making);
  for (const name of ["stop", "way"]) show(parts[name], Boolean(item.making));
  parts.image.style.setProperty("--w", item.width);
  parts.image.style.setProperty("--a", item.width / item.height);
  parts.image.alt = item.making ? `So far: ${item.prompt}` : item.prompt;
  parts.image.hidden = Boolean(item.making);
  text(parts.prompt, item.prompt);
  show(parts.negative, false);
  if (item.making) begin();
  else showPicture(parts.image, item.url);
  lookCloser(item);
  text(parts.place, at < 0 ? "" : `${at + 1} of ${list.length}${store.older ? "+" : ""}`);
  parts.before.disabled = at <= 0;
  parts.after.disabled = at >= list.length - 1;
  if (dialog.open && document.activeElement?.offsetParent === null) parts.use.focus(); // its button went
}

/** Begins to show a task under way. */
function begin() {
  const item = current, task = store.tasks.get(item.task), { bar, line, update } = watch(task);
  const see = livePicture(parts.image, () => current === item);
  parts.image.removeAttribute("src");
  delete parts.image.dataset.url;
  parts.way.replaceChildren(bar, line);
  parts.update = (t) => {
    update({ ...t, preview: null });
    if (t.preview) see(`${t.preview.url}&side=512`);
  };
  follow(task);
}

/** What happens to the task that is looked at; once it is done, its picture takes its place. */
function follow(task) {
  if (!current?.making || task?.id !== current.task) return;
  if (isActive(task) || task.status === "queued") {
    parts.update(task);
    parts.stop.disabled = Boolean(task.cancel_requested);
    return;
  }
  const made = task.status === "completed" ? picturesOf(task) : [];
  if (made.length > 0) look(made[0]);
  else shut();
}

/* --- moving --- */

function step(by) {
  const list = items(), next = list[list.findIndex((p) => p.id === current.id) + by];
  if (!next) return;
  look(next);
  say(next.prompt);
}

function keys(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "Delete" && !current.making) destroy();
  else if (event.key === "i" && !current.making) parts.start.click();
  else return;
  event.preventDefault();
}

function swipe(stage) {
  let from = null;
  stage.addEventListener("touchstart", (event) => { from = event.touches.length === 1 ? event.touches[0].clientX : null; }, { passive: true });
  stage.addEventListener("touchend", (event) => {
    const way = from === null ? 0 : event.changedTouches[0].clientX - from;
    if (Math.abs(way) > 50) step(way > 0 ? -1 : 1);
  });
}

export function openViewer(id) {
  if (!parts) {
    build();
    on("task progress", follow);
  }
  const item = items().find((p) => p.id === id);
  if (!item) return;
  look(item);
  dialog.showModal();
  parts.use.focus({ preventScroll: true });
}
