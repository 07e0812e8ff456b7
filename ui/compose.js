// The form: draws the draft, hears what is typed, and sends it.
import * as api from "./api.js";
import { $, blame, el, icon, say, show, svg, text, toast } from "./dom.js";
import { change, draft, model, ratios, request, size, take } from "./draft.js";
import { startAsIn } from "./input.js";
import { on, put, store } from "./store.js";

const form = $("compose");

function shape(name, label, words, sketch) {
  return el("label", { title: label, data: { ratio: name } }, el("input", { type: "radio", name: "ratio", value: name, "aria-label": label }),
    svg("svg", { viewBox: "0 0 24 24", class: "shape", "aria-hidden": "true" }, sketch), el("span", { "aria-hidden": "true" }, words));
}

function drawShapes() {
  for (const [name, ratio] of ratios) {
    const w = ratio >= 1 ? 18 : 18 * ratio, h = ratio >= 1 ? 18 / ratio : 18;
    $("shapes").append(shape(name, name.replace(":", " to "), name, svg("rect", { x: 12 - w / 2, y: 12 - h / 2, width: w, height: h, rx: 1.5 })));
  }
  $("shapes").append(shape("custom", "Any size", "any", svg("path", { d: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5" })),
    shape("input", "As the picture it starts from", "as is", svg("path", { d: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4" })));
}

/* --- from draft to form --- */

function fill(node, value) {
  if (node !== document.activeElement || node.type === "range") node.value = value ?? "";
}

function render() {
  const m = model(), [w, h] = size();
  for (const name of ["prompt", "negative_prompt", "true_cfg_scale", "seed", "n", "priority", "strength"]) fill($(name), draft[name]);
  $("true_cfg_range").value = draft.true_cfg_scale;
  $("strength_range").value = draft.strength;
  for (const input of form.elements.ratio) input.checked = input.value === draft.ratio;
  show($("shapes").querySelector("[data-ratio=input]"), draft.image !== null);
  show($("custom-size"), draft.ratio === "custom");
  fill($("width"), w || "");
  fill($("height"), h || "");
  text($("size-text"), w && h ? `${w} × ${h}` : "");
  $("n-less").disabled = draft.n <= 1;
  $("n-more").disabled = draft.n >= 16;
  text($("generate").firstChild, draft.n > 1 ? `Generate ${draft.n} pictures` : "Generate");
  if (!m) return;
  $("model").value = m.id;
  for (const input of [$("width"), $("height")]) input.step = m.size_multiple || 16;
  const steps = draft.num_inference_steps ?? m.defaults.num_inference_steps, guidance = draft.guidance_scale ?? m.defaults.guidance_scale;
  fill($("num_inference_steps"), steps);
  $("steps_range").value = steps;
  fill($("guidance_scale"), guidance);
  $("guidance_range").value = guidance;
  show($("guidance-row"), Boolean(m.guidance_embedded));
}

function renderModels() {
  const names = store.models.map((m) => m.id);
  if ([...$("model").options].map((o) => o.value).join("\n") !== names.join("\n")) $("model").replaceChildren(...names.map((id) => el("option", { value: id }, id)));
  render();
}

/* --- from form to draft --- */

const sliders = [["true_cfg_scale", "true_cfg_range"], ["num_inference_steps", "steps_range"], ["guidance_scale", "guidance_range"], ["strength", "strength_range"]];
const count = (value) => Math.min(16, Math.max(1, Math.round(Number(value)) || 1));

function listen() {
  for (const name of ["prompt", "negative_prompt", "seed"]) $(name).addEventListener("input", () => change({ [name]: $(name).value }));
  $("priority").addEventListener("change", () => change({ priority: $("priority").value }));
  $("model").addEventListener("change", () => change({ model: $("model").value, num_inference_steps: null, guidance_scale: null }));
  for (const [number, range] of sliders) {
    $(range).tabIndex = -1; // the number beside it is enough for keys and screen readers
    $(range).ariaHidden = "true";
    $(number).addEventListener("input", () => change({ [number]: $(number).value === "" ? null : Number($(number).value) }));
    $(range).addEventListener("input", () => change({ [number]: Number($(range).value) }));
    $(number).addEventListener("blur", render);
  }
  $("shapes").addEventListener("change", (event) => {
    const [width, height] = size();
    change({ width, height, ratio: event.target.value });
  });
  for (const side of ["width", "height"]) $(side).addEventListener("input", () => change({ [side]: Number($(side).value) }));
  $("n").addEventListener("input", () => change({ n: count($("n").value) }));
  $("n").addEventListener("blur", render);
  $("n-less").addEventListener("click", () => change({ n: count(draft.n - 1) }));
  $("n-more").addEventListener("click", () => change({ n: count(draft.n + 1) }));
  $("seed-random").addEventListener("click", () => change({ seed: "" }));
  $("seed-last").addEventListener("click", () => change({ seed: lastSeed() ?? "" }));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
}

const lastSeed = () => (store.pictures.length > 0 ? String(store.pictures[0].seed) : null);

/* --- faults --- */

function complain(fault) {
  const message = fault.message.replace(/^'\w+' is /, "It is ");
  if (fault.field === "negative_prompt" || fault.field === "true_cfg_scale") $("negative-box").open = true;
  if (fault.field === "width" || fault.field === "height") {
    const [width, height] = size();
    change({ width, height, ratio: "custom" });
  }
  if (fault.field === "guidance_scale") show($("guidance-row"), true);
  if (fault.field && blame(fault.field, message)) {
    $(fault.field).focus();
    say(message);
    return;
  }
  text($("form-fault"), fault.status === 0 ? `${fault.message} What you typed is kept.` : fault.message);
  show($("form-fault"), true);
}

/* --- submitting --- */

let sending = false;

export async function generate() {
  if (sending) return;
  show($("form-fault"), false);
  if (!draft.prompt.trim()) {
    blame("prompt", "Say what the picture shows.");
    $("prompt").focus();
    return;
  }
  sending = true;
  $("generate").setAttribute("aria-busy", "true");
  try {
    const task = await api.submit(request());
    put(task);
    say(task.position > 1 ? `Queued at place ${task.position}.` : "Queued.");
  } catch (fault) {
    complain(fault);
  } finally {
    sending = false;
    $("generate").removeAttribute("aria-busy");
  }
}

/* --- settings from elsewhere --- */

/** Takes them over and says so. `deed`, optional: what else could be done, {label, run}. */
export function use(settings, deed = null) {
  document.activeElement?.blur();
  const known = take(settings);
  for (const input of form.querySelectorAll("[aria-invalid]")) blame(input.id, "");
  $("negative-box").open = draft.negative_prompt !== "";
  toast(known ? "Settings taken over." : `Settings taken over; there is no model '${settings.model}' here.`, "", deed);
}

/** Those of a task, with the picture that it started from, or none. `seed`: of the one picture that is meant. */
export function useTask(task, seed = task.request.seed) {
  use({ ...task.request, model: task.model, seed });
  startAsIn(task.request).catch(() => toast("The picture it started from is gone.", "bad"));
}

export function usePrompt(prompt) {
  change({ prompt });
  $("prompt").focus();
}

export function start() {
  drawShapes();
  $("seed-last").append(icon("again"));
  $("seed-random").append(icon("dice"));
  if (/Mac|iP/.test(navigator.platform)) for (const key of document.querySelectorAll("kbd")) text(key, "⌘ ↵");
  $("negative-box").open = draft.negative_prompt !== "";
  listen();
  render();
  on("models", renderModels);
  on("draft", (fields) => {
    for (const name of Object.keys(fields)) blame(name, "");
    render();
  });
  on("state", () => {
    if (store.state === "on") show($("form-fault"), false);
  });
  on("pictures", () => {
    $("seed-last").disabled = lastSeed() === null;
  });
}
