// The form. What is typed is kept at every keystroke, so that neither a reload nor a restart of the server loses it.
import * as api from "./api.js";
import { $, el, keep, kept, say, show, svg, text, toast } from "./dom.js";
import { settingsOf } from "./png.js";
import { finished, on, put, store } from "./store.js";

const ratios = [["1:1", 1], ["4:3", 4 / 3], ["3:2", 3 / 2], ["16:9", 16 / 9], ["3:4", 3 / 4], ["2:3", 2 / 3], ["9:16", 9 / 16], ["custom", 0]];
const form = $("compose");
// null: as the model has it.
const draft = Object.assign({ prompt: "", negative_prompt: "", true_cfg_scale: 3.5, model: null, ratio: "1:1", width: 0, height: 0, num_inference_steps: null,
  guidance_scale: null, seed: "", n: 1, priority: "normal" }, kept("draft", {}));

const model = () => store.models.find((m) => m.id === draft.model) ?? store.models.find((m) => m.default) ?? store.models[0];
const save = () => keep("draft", draft);

/* --- size --- */

/** A size of about the model's own area, in the steps that it takes. */
function sizeOf(ratio, m) {
  const { width, height } = m.defaults, step = m.size_multiple || 16, found = ratios.find(([name]) => name === ratio)?.[1];
  if (!found || (ratio === "1:1" && width === height)) return [width, height];
  const snap = (x) => Math.max(step, Math.round(x / step) * step);
  return [snap(Math.sqrt(width * height * found)), snap(Math.sqrt((width * height) / found))];
}

function size() {
  const m = model();
  if (draft.ratio === "custom") return [Number(draft.width), Number(draft.height)];
  return m ? sizeOf(draft.ratio, m) : [0, 0];
}

function drawShapes() {
  for (const [name, ratio] of ratios) {
    const w = ratio >= 1 ? 18 : 18 * ratio, h = ratio >= 1 ? 18 / ratio : 18;
    const sketch = ratio
      ? svg("rect", { x: 12 - w / 2, y: 12 - h / 2, width: w, height: h, rx: 1.5 })
      : svg("path", { d: "M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5" });
    $("shapes").append(el("label", { title: ratio ? name : "Any size" },
      el("input", { type: "radio", name: "ratio", value: name, "aria-label": ratio ? name.replace(":", " to ") : "Any size" }),
      svg("svg", { viewBox: "0 0 24 24", class: "shape", "aria-hidden": "true" }, sketch),
      el("span", { "aria-hidden": "true" }, ratio ? name : "any")));
  }
}

/* --- from draft to form --- */

function fill(node, value) {
  if (node !== document.activeElement || node.type === "range") node.value = value ?? "";
}

function render() {
  const m = model(), [w, h] = size();
  for (const name of ["prompt", "negative_prompt", "true_cfg_scale", "seed", "n", "priority"]) fill($(name), draft[name]);
  $("true_cfg_range").value = draft.true_cfg_scale;
  for (const input of form.elements.ratio) input.checked = input.value === draft.ratio;
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

const sliders = [["true_cfg_scale", "true_cfg_range"], ["num_inference_steps", "steps_range"], ["guidance_scale", "guidance_range"]];

function listen() {
  for (const name of ["prompt", "negative_prompt", "seed"]) $(name).addEventListener("input", () => change(name, $(name).value));
  $("priority").addEventListener("change", () => change("priority", $("priority").value));
  $("model").addEventListener("change", () => {
    draft.num_inference_steps = draft.guidance_scale = null;
    change("model", $("model").value);
  });
  for (const [number, range] of sliders) {
    $(number).addEventListener("input", () => change(number, $(number).value === "" ? null : Number($(number).value)));
    $(range).addEventListener("input", () => change(number, Number($(range).value)));
    $(number).addEventListener("blur", render);
  }
  $("shapes").addEventListener("change", (event) => {
    [draft.width, draft.height] = size();
    change("ratio", event.target.value);
  });
  for (const side of ["width", "height"]) $(side).addEventListener("input", () => change(side, Number($(side).value)));
  $("n").addEventListener("input", () => change("n", Math.min(16, Math.max(1, Math.round(Number($("n").value)) || 1))));
  $("n").addEventListener("blur", render);
  $("n-less").addEventListener("click", () => change("n", Math.max(1, draft.n - 1)));
  $("n-more").addEventListener("click", () => change("n", Math.min(16, draft.n + 1)));
  $("seed-random").addEventListener("click", () => change("seed", ""));
  $("seed-last").addEventListener("click", () => change("seed", lastSeed() ?? ""));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    generate();
  });
}

function change(name, value) {
  draft[name] = value;
  blame(name, "");
  save();
  render();
}

const lastSeed = () => {
  const seed = finished()[0]?.images[0]?.seed;
  return seed === undefined ? null : String(seed);
};

/* --- faults --- */

function blame(name, message) {
  const line = $(`${name}-fault`), input = $(name);
  if (!line) return false;
  text(line, message);
  show(line, message !== "");
  if (message) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", line.id);
  } else {
    input?.removeAttribute("aria-invalid");
    input?.removeAttribute("aria-describedby");
  }
  return true;
}

function complain(fault) {
  const message = fault.message.replace(/^'\w+' is /, "It is ");
  if (fault.field === "negative_prompt" || fault.field === "true_cfg_scale") $("negative-box").open = true;
  if (fault.field === "width" || fault.field === "height") change("ratio", "custom");
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

function body() {
  const m = model(), [width, height] = size();
  const fields = { prompt: draft.prompt.trim(), width, height, n: draft.n, priority: draft.priority };
  if (m) fields.model = m.id;
  if (draft.num_inference_steps !== null) fields.num_inference_steps = draft.num_inference_steps;
  if (draft.guidance_scale !== null && m?.guidance_embedded) fields.guidance_scale = draft.guidance_scale;
  if (draft.negative_prompt.trim()) Object.assign(fields, { negative_prompt: draft.negative_prompt.trim(), true_cfg_scale: draft.true_cfg_scale ?? 1 });
  if (String(draft.seed).trim() !== "") fields.seed = String(draft.seed).trim();
  if (!width || !height) delete fields.width, delete fields.height;
  return fields;
}

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
    const task = await api.submit(body());
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

/** Takes fields as a task's request has them; what is not given stays, but no negative prompt means none. */
export function use(settings) {
  const known = !settings.model || store.models.some((m) => m.id === settings.model);
  if (settings.model && known) draft.model = settings.model;
  draft.prompt = settings.prompt ?? draft.prompt;
  draft.negative_prompt = settings.negative_prompt ?? "";
  if (settings.true_cfg_scale > 1) draft.true_cfg_scale = settings.true_cfg_scale;
  for (const name of ["num_inference_steps", "guidance_scale"]) if (settings[name] !== undefined) draft[name] = settings[name];
  if (settings.seed !== undefined) draft.seed = String(settings.seed);
  if (settings.width && settings.height) {
    const m = model(), same = m && ratios.find(([name, r]) => r && sizeOf(name, m).join() === `${settings.width},${settings.height}`);
    Object.assign(draft, { width: settings.width, height: settings.height, ratio: same ? same[0] : "custom" });
  }
  for (const line of form.querySelectorAll(".fault")) show(line, false);
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  $("negative-box").open = draft.negative_prompt !== "";
  document.activeElement?.blur();
  save();
  render();
  toast(known ? "Settings taken over." : `Settings taken over; there is no model '${settings.model}' here.`);
}

export function usePrompt(prompt) {
  change("prompt", prompt);
  $("prompt").focus();
}

async function takeFile(blob) {
  try {
    use(await settingsOf(blob));
    document.dispatchEvent(new CustomEvent("view", { detail: "compose" }));
  } catch (error) {
    toast(error.message, "bad");
  }
}

/** What is dragged: a file from outside, or one of this page's own pictures. */
async function takeDrop(transfer) {
  if (transfer.files.length > 0) return takeFile(transfer.files[0]);
  const address = transfer.getData("text/uri-list").split("\n")[0], url = address && new URL(address, location.href);
  if (url && url.origin === location.origin && url.pathname.startsWith("/api/images/")) return takeFile(await (await fetch(url)).blob());
}

function listenForPictures() {
  let depth = 0;
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].some((t) => t === "Files" || t === "text/uri-list");
  const end = () => {
    depth = 0;
    show($("drop"), false);
  };
  addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth++;
    show($("drop"), true);
  });
  addEventListener("dragover", (event) => {
    if (carries(event)) event.preventDefault();
  });
  addEventListener("dragleave", () => {
    if (--depth <= 0) end();
  });
  addEventListener("drop", (event) => {
    end();
    if (!carries(event)) return;
    event.preventDefault();
    takeDrop(event.dataTransfer);
  });
  addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type === "image/png");
    if (file) takeFile(file);
  });
  $("from-file").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files.length > 0) takeFile($("file").files[0]);
    $("file").value = "";
  });
}

export function start() {
  drawShapes();
  if (/Mac|iP/.test(navigator.platform)) for (const key of document.querySelectorAll("kbd")) text(key, "⌘ ↵");
  $("negative-box").open = draft.negative_prompt !== "";
  listen();
  listenForPictures();
  render();
  on("models", renderModels);
  on("state", () => {
    if (store.state === "on") show($("form-fault"), false);
  });
  on("task", () => {
    $("seed-last").disabled = lastSeed() === null;
  });
}
