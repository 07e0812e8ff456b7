// One picture over everything, with its settings. Left and right go through the pictures that are shown.
import * as api from "./api.js";
import { use } from "./compose.js";
import { $, el, icon, say, show, text, toast } from "./dom.js";
import { seconds } from "./format.js";
import { focusTile, pictures, remove } from "./gallery.js";
import { parametersText } from "./png.js";

const dialog = $("viewer");
let current = null, parts = null, deletes = null, sure = false;

function settings(picture) {
  return { ...picture.task.request, model: picture.task.model, seed: picture.seed };
}

async function copy() {
  const words = parametersText(current.task.request, current.task.model, current.seed);
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

async function destroy() {
  if (!sure) {
    sure = true;
    text(parts.destroy, "Delete for good?");
    parts.destroy.classList.add("danger");
    return;
  }
  const picture = current, list = pictures(), at = list.findIndex((p) => p.id === picture.id);
  try {
    await api.deletePicture(picture.id);
  } catch (fault) {
    if (fault.status !== 404) return toast(fault.message, "bad");
  }
  remove(picture.id);
  say("Deleted.");
  const next = list[at + 1] ?? list[at - 1];
  if (next) look(next);
  else dialog.close();
}

function build() {
  const button = (label, f, more) => el("button", { type: "button", onclick: f, ...more }, label);
  parts = {
    image: el("img", { alt: "" }),
    prompt: el("p", { class: "prompt" }),
    negative: el("p", { class: "negative" }),
    facts: el("dl"),
    place: el("p", { class: "fine place" }),
    before: button(icon("left"), () => step(-1), { class: "step before", "aria-label": "Previous picture" }),
    after: button(icon("right"), () => step(1), { class: "step after", "aria-label": "Next picture" }),
    use: button("Use settings", () => {
      use(settings(current));
      current = null; // the focus goes to the form, not back
      dialog.close();
      document.dispatchEvent(new CustomEvent("view", { detail: "compose" }));
      $("prompt").focus();
    }, { class: "primary" }),
    copy: button("Copy settings", copy),
    save: el("a", { class: "button", download: "" }, "Save"),
    destroy: button("Delete", destroy, { hidden: true }),
  };
  dialog.append(
    el("div", { class: "stage", onclick: (event) => { if (event.target === event.currentTarget) dialog.close(); } }, parts.before, parts.image, parts.after),
    el("div", { class: "about" }, el("div", { class: "bar" }, parts.place, button(icon("close"), () => dialog.close(), { class: "quiet icon-only", "aria-label": "Close" })),
      parts.prompt, parts.negative, parts.facts, el("div", { class: "deeds" }, parts.use, parts.copy, parts.save, parts.destroy)));
  dialog.addEventListener("keydown", keys);
  dialog.addEventListener("close", () => {
    const id = current?.id;
    current = null;
    focusTile(id);
  });
  swipe(dialog.firstChild);
}

function keys(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "ArrowRight") step(1);
  else if (event.key === "Delete" && deletes) destroy();
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

function facts(picture) {
  const { request, model, metrics } = picture.task, rows = [["Model", model], ["Size", `${request.width} × ${request.height}`], ["Steps", request.num_inference_steps], ["Seed", picture.seed]];
  if (request.guidance_scale > 1) rows.push(["Guidance", request.guidance_scale]);
  if (request.true_cfg_scale > 1) rows.push(["True CFG", request.true_cfg_scale]);
  const took = metrics.encode_seconds + metrics.denoise_seconds + metrics.decode_seconds;
  if (took > 0) rows.push(["Took", seconds(took)]);
  rows.push(["Made", new Date(picture.task.finished_at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" })]);
  return rows.flatMap(([name, value]) => [el("dt", null, name), el("dd", null, String(value))]);
}

function look(picture) {
  const list = pictures(), at = list.findIndex((p) => p.id === picture.id), { request } = picture.task;
  current = picture;
  sure = false;
  text(parts.destroy, "Delete");
  parts.destroy.classList.remove("danger");
  show(parts.destroy, Boolean(deletes));
  parts.image.src = picture.url;
  parts.image.alt = request.prompt;
  parts.image.style.setProperty("--w", request.width);
  parts.image.style.setProperty("--a", request.width / request.height);
  text(parts.prompt, request.prompt);
  text(parts.negative, request.negative_prompt ? `Without: ${request.negative_prompt}` : "");
  show(parts.negative, Boolean(request.negative_prompt));
  parts.facts.replaceChildren(...facts(picture));
  parts.save.href = picture.url;
  parts.save.download = `${request.prompt.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60) || "picture"}-${picture.seed}.png`;
  text(parts.place, `${at + 1} of ${list.length}`);
  parts.before.disabled = at <= 0;
  parts.after.disabled = at >= list.length - 1;
}

function step(by) {
  const list = pictures(), next = list[list.findIndex((p) => p.id === current.id) + by];
  if (!next) return;
  look(next);
  say(next.task.request.prompt);
}

export async function openViewer(id) {
  if (!parts) build();
  const picture = pictures().find((p) => p.id === id);
  if (!picture) return;
  look(picture);
  dialog.showModal();
  parts.use.focus({ preventScroll: true });
  deletes ??= await api.deletesPictures();
  show(parts.destroy, deletes);
}
