// What is being typed: the next task. It is kept at every change, so that neither a reload nor a restart of the server loses it.
import { keep, kept } from "./dom.js";
import { emit, store } from "./store.js";

export const ratios = [["1:1", 1], ["4:3", 4 / 3], ["3:2", 3 / 2], ["16:9", 16 / 9], ["3:4", 3 / 4], ["2:3", 2 / 3], ["9:16", 9 / 16]];

/* null: as the model has it. `ratio` is one of those above, "input" (as the picture it starts from) or "custom" (`width` and `height`). `image` and `mask` are
 * documents of pictures the server has: {id, url, width, height}; a mask's `source`, light (undefined) or alpha, is as in a request. */
export const draft = Object.assign({ prompt: "", negative_prompt: "", true_cfg_scale: 3.5, model: null, ratio: "1:1", width: 0, height: 0, num_inference_steps: null,
  guidance_scale: null, seed: "", n: 1, priority: "normal", image: null, mask: null, strength: 0.6 }, kept("draft", {}));

/** The only way to change it; those who listen for "draft" hear which fields. */
export function change(fields) {
  Object.assign(draft, fields);
  keep("draft", draft);
  emit("draft", fields);
}

export const model = () => store.models.find((m) => m.id === draft.model) ?? store.models.find((m) => m.default) ?? store.models[0];

/* --- size --- */

/** A size of about the model's own area, in the steps that it takes. */
function fit(ratio, m) {
  const { width, height } = m.defaults, step = m.size_multiple || 16, snap = (x) => Math.max(step, Math.round(x / step) * step);
  if (ratio === 1 && width === height) return [width, height];
  return [snap(Math.sqrt(width * height * ratio)), snap(Math.sqrt((width * height) / ratio))];
}

/** A picture of which the model could have made itself keeps its size. */
function sizeOfInput({ width, height }, m) {
  const step = m.size_multiple || 16, whole = width % step === 0 && height % step === 0, area = (width * height) / (m.defaults.width * m.defaults.height);
  return whole && area >= 0.25 && area <= 1.5 ? [width, height] : fit(width / height, m);
}

function sizeOf(ratio, m) {
  if (ratio === "input" && draft.image) return sizeOfInput(draft.image, m);
  return fit(ratios.find(([name]) => name === ratio)?.[1] ?? m.defaults.width / m.defaults.height, m);
}

export function size() {
  const m = model();
  if (draft.ratio === "custom") return [Number(draft.width), Number(draft.height)];
  return m ? sizeOf(draft.ratio, m) : [0, 0];
}

function ratioOf(width, height) {
  const m = model(), same = m && ratios.find(([name]) => sizeOf(name, m).join() === `${width},${height}`);
  return same ? same[0] : "custom";
}

/* --- as a request --- */

export function request() {
  const m = model(), [width, height] = size();
  const fields = { prompt: draft.prompt.trim(), n: draft.n, priority: draft.priority };
  if (m) fields.model = m.id;
  if (width && height) Object.assign(fields, { width, height });
  if (draft.num_inference_steps !== null) fields.num_inference_steps = draft.num_inference_steps;
  if (draft.guidance_scale !== null && m?.guidance_embedded) fields.guidance_scale = draft.guidance_scale;
  if (draft.negative_prompt.trim()) Object.assign(fields, { negative_prompt: draft.negative_prompt.trim(), true_cfg_scale: draft.true_cfg_scale ?? 1 });
  if (String(draft.seed).trim() !== "") fields.seed = String(draft.seed).trim();
  if (draft.image) Object.assign(fields, { image: draft.image.id, strength: draft.strength });
  if (draft.image && draft.mask) Object.assign(fields, { mask: draft.mask.id, mask_source: draft.mask.source });
  return fields;
}

/* --- from elsewhere --- */

/** Takes settings over, with the fields that a task's request has; what is not given stays, but no negative prompt means none. False: there is no such model here. */
export function take(settings) {
  const known = !settings.model || store.models.some((m) => m.id === settings.model), fields = { negative_prompt: settings.negative_prompt ?? "" };
  if (settings.model && known) draft.model = settings.model;
  for (const name of ["prompt", "num_inference_steps", "guidance_scale"]) if (settings[name] !== undefined) fields[name] = settings[name];
  if (settings.true_cfg_scale > 1) fields.true_cfg_scale = settings.true_cfg_scale;
  if (settings.seed !== undefined) fields.seed = String(settings.seed);
  const { width, height } = settings;
  if (width && height) Object.assign(fields, { width, height, ratio: ratioOf(width, height) });
  change(fields);
  return known;
}

/** The picture to start from; null: none. A mask belongs to its picture. */
export function takeInput(image) {
  const ratio = image ? "input" : draft.ratio === "input" ? "1:1" : draft.ratio;
  change({ image, mask: null, ratio });
}
