// What is known of the server: tasks, models, figures. Views listen; only live.js and answers to requests change it.

const finalStatus = new Set(["completed", "failed", "cancelled"]);
const KEPT_SAMPLES = 900;

export const store = {
  tasks: new Map(),
  pictures: [], // made ones, newest first: {id, url, task, model, prompt, seed, width, height}; `task` is an id
  models: [],
  stats: null,
  samples: [], // {at, queued, active}, oldest first
  evicted: new Map(), // model → {cause, at}, where it could be told
  state: "wait", // wait, on, off, locked: a key is needed
  trouble: null, // what the last engine died of, while there is no other
  older: null, // the server has pictures older than these: where they begin
  loaded: false, // the first pictures were listed
};

const listeners = {};

/** `what`: task (with the task and its status before), progress, pictures, models, stats, state. */
export function on(what, f) {
  for (const w of what.split(" ")) (listeners[w] ??= []).push(f);
}

export function emit(what, ...details) {
  for (const f of listeners[what] ?? []) f(...details);
}

export const isFinal = (t) => finalStatus.has(t.status);
export const isActive = (t) => t.status === "loading" || t.status === "running";

export function put(task, quietly = false) {
  const before = store.tasks.get(task.id);
  if (before && isFinal(before) && !isFinal(task)) return; // an older answer that came later
  task.received = performance.now();
  task.pace = before?.pace;
  store.tasks.set(task.id, task);
  if (task.status === "running") measure(task);
  emit("task", task, before?.status, quietly);
}

/** Seconds a step, over the last few seconds: steps that come in one piece from the network say nothing by themselves. */
function measure(task) {
  const { phase, step, image } = task.progress, now = performance.now();
  if (phase !== "denoise") return;
  const pace = (task.pace ??= { marks: [] }), last = pace.marks.at(-1);
  if (pace.image !== image || (last && step < last.step)) Object.assign(pace, { image, marks: [{ step, at: now }] });
  else if (step > last.step) pace.marks.push({ step, at: now });
  while (pace.marks.length > 2 && now - pace.marks[1].at > 4000) pace.marks.shift();
  const first = pace.marks[0], newest = pace.marks.at(-1);
  pace.at = newest.at;
  if (newest.at - first.at > 150) pace.seconds = (newest.at - first.at) / 1000 / (newest.step - first.step);
}

export function progress(p) {
  const task = store.tasks.get(p.id);
  if (!task || isFinal(task)) return;
  task.progress = p;
  if (p.preview) task.preview = p.preview;
  const changed = task.status !== p.status;
  task.status = p.status;
  measure(task);
  emit(changed ? "task" : "progress", task, task.status);
}

/** How much of it is done, 0…1. */
export function fraction(task) {
  const p = task.progress;
  if (p.phase === "load") return p.bytes_total ? (0.08 * p.bytes) / p.bytes_total : 0.02;
  if (!p.phase || p.phase === "encode") return 0.08;
  const each = 0.9 / Math.max(1, p.n);
  const inside = p.phase === "decode" ? 0.97 : (0.95 * p.step) / Math.max(1, p.steps);
  return Math.min(0.99, 0.08 + each * (p.image + inside));
}

/** Seconds until it is done, or null. */
export function eta(task) {
  const p = task.progress, now = performance.now();
  if (p.phase === "denoise" && p.n === 1 && task.pace?.seconds)
    return Math.max(0, (p.steps - p.step) * task.pace.seconds - (now - task.pace.at) / 1000);
  if (task.eta_seconds === null || task.eta_seconds === undefined) return null;
  return Math.max(0, task.eta_seconds - (now - task.received) / 1000);
}

/** Replaces all that is not over. */
export function present(tasks, complete) {
  const seen = new Set(tasks.map((t) => t.id));
  if (complete) for (const [id, t] of store.tasks) if (!isFinal(t) && !seen.has(id)) forget(id);
  for (const t of tasks) put(t, true);
}

export function forget(id) {
  const task = store.tasks.get(id);
  store.tasks.delete(id);
  if (task) emit("task", task, task.status, true);
}

export function waiting() {
  return [...store.tasks.values()].filter((t) => t.status === "queued").sort((a, b) => (a.position ?? 1e9) - (b.position ?? 1e9) || (a.id < b.id ? -1 : 1));
}

export function active() {
  return [...store.tasks.values()].filter(isActive).sort((a, b) => (a.started_at < b.started_at ? -1 : 1));
}

/* --- pictures --- */

/** Task ids rise with time, so this is the server's order: by submission, then by the picture's number, the newest first. */
function place(id) {
  const at = id.lastIndexOf("-");
  return [id.slice(0, at), Number(id.slice(at + 1))];
}

function isBefore(a, b) {
  const [aTask, aNumber] = place(a.id), [bTask, bNumber] = place(b.id);
  return aTask === bTask ? aNumber > bNumber : aTask > bTask;
}

export function picturesOf(task) {
  const { prompt, width, height } = task.request;
  return task.images.map((i) => ({ id: i.id, url: i.url, seed: i.seed, task: task.id, model: task.model, prompt, width, height }));
}

/** Pictures that were just made. What is older than all that is listed comes with its page, or it would seem that nothing lies between. */
export function addPictures(list) {
  if (!store.loaded) return;
  const known = new Set(store.pictures.map((p) => p.id)), last = store.older ? store.pictures.at(-1) : null;
  const fresh = list.filter((p) => !known.has(p.id) && (!last || isBefore(p, last)));
  store.pictures = [...store.pictures, ...fresh].sort((a, b) => (isBefore(a, b) ? -1 : 1));
  emit("pictures");
}

/** The list's first page, again after each reconnection. What was listed behind it stays where it still follows on. */
export function putFirstPage({ images, next }) {
  const named = new Set(images.map((p) => p.id)), last = images.at(-1), before = store.pictures;
  const behind = next && before.some((p) => named.has(p.id)) ? before.filter((p) => isBefore(last, p)) : [];
  const newer = before.filter((p) => !named.has(p.id) && last && isBefore(p, images[0])); // made while the answer was on its way
  store.pictures = [...newer, ...images, ...behind];
  if (behind.length === 0) store.older = next;
  store.loaded = true;
  emit("pictures");
}

export function putNextPage({ images, next }) {
  const known = new Set(store.pictures.map((p) => p.id));
  store.pictures.push(...images.filter((p) => !known.has(p.id)));
  store.older = next;
  emit("pictures");
}

export function removePicture(id) {
  store.pictures = store.pictures.filter((p) => p.id !== id);
  emit("pictures");
}

/** Where a model left between two figures and one cause alone was counted, that was it. */
function watchEvictions(before, now) {
  const causes = Object.keys(now.evictions ?? {}).filter((c) => now.evictions[c] > (before.evictions?.[c] ?? 0));
  const there = new Set(now.models.map((m) => m.id));
  if (causes.length === 1) for (const m of before.models) if (!there.has(m.id)) store.evicted.set(m.id, { cause: causes[0], at: new Date().toISOString() });
  for (const id of there) store.evicted.delete(id);
}

export function putStats(stats) {
  if (store.stats) watchEvictions(store.stats.models, stats.models);
  store.stats = stats;
  store.samples.push({ at: Date.now(), queued: stats.queue.queued, active: stats.queue.active });
  if (store.samples.length > KEPT_SAMPLES) store.samples.shift();
  emit("stats");
}

export function setState(state) {
  if (store.state === state) return;
  store.state = state;
  emit("state");
}
