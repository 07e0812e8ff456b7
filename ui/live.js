// Keeps the store true: one stream of events, lists after each (re)connection, figures every other second while the page is seen.
import * as api from "./api.js";
import { active, emit, forget, isFinal, present, progress, put, putStats, setState, store, waiting } from "./store.js";

const LIST = 200, LISTED_AT_MOST = 1000;
let limit = LIST, source, retry = 1000, relist, statsTimer, modelsAt = 0, modelsKey = "";

/** The finished tasks, newest first: pictures outlive the server and this page. */
async function loadFinished() {
  const [done, failed] = await Promise.all([api.tasks("completed", limit), api.tasks("failed", 20)]);
  store.older = done.length === limit && limit < LISTED_AT_MOST;
  if (done.length < limit) {
    const there = new Set(done.map((t) => t.id));
    for (const t of [...store.tasks.values()]) if (t.status === "completed" && !there.has(t.id)) forget(t.id);
  }
  for (const t of [...done, ...failed]) put(t, true);
  store.loaded = true;
  emit("task", null, null, true);
}

export async function loadOlder() {
  limit = LISTED_AT_MOST;
  await loadFinished();
}

/** Places and estimates of those that wait move with every task that starts or ends; no event says so. */
async function listWaiting() {
  relist = null;
  const known = waiting(), asked = performance.now();
  const [queued, running, loading] = await Promise.all([api.tasks("queued", LIST), api.tasks("running", 50), api.tasks("loading", 50)]);
  const now = new Set([...queued, ...running, ...loading].map((t) => t.id));
  const newer = (id) => store.tasks.get(id)?.received > asked; // an event overtook the answer
  for (const t of [...queued, ...running, ...loading]) if (!newer(t.id)) put(t, true);
  if (queued.length < LIST) for (const t of known) if (!now.has(t.id) && store.tasks.get(t.id)?.status === "queued" && !newer(t.id)) forget(t.id);
}

export function relistSoon(ms = 300) {
  relist ??= setTimeout(() => listWaiting().catch(() => { relist = null; }), ms);
}

async function loadModels() {
  store.models = await api.models();
  modelsAt = Date.now();
  emit("models");
}

export async function refreshStats() {
  clearTimeout(statsTimer);
  try {
    if (store.state === "on" && !document.hidden) {
      const stats = await api.stats();
      putStats(stats);
      const key = stats.models.models.map((m) => m.id + m.state + m.leases).join();
      if (key !== modelsKey || Date.now() - modelsAt > 15000) await loadModels();
      modelsKey = key;
      if (waiting().length > 0 || active().length > 0) relistSoon(1500);
    }
  } catch { /* the stream tells when the server is away */ }
  clearTimeout(statsTimer);
  statsTimer = setTimeout(refreshStats, active().length > 0 ? 1000 : 2500);
}

function opened() {
  retry = 1000;
  setState("on");
  loadFinished().catch(() => {});
  loadModels().catch(() => {});
  refreshStats();
}

function heard(name) {
  return (event) => {
    const data = JSON.parse(event.data);
    if (name === "state") present(data.tasks, data.complete);
    else if (name === "progress") progress(data);
    else put(data);
    if (name === "state" || name === "queued" || name === "started" || (data.status && isFinal(data))) {
      relistSoon();
      if (name !== "queued" && name !== "state") refreshStatsSoon();
    }
  };
}

let soon;
function refreshStatsSoon() {
  soon ??= setTimeout(() => {
    soon = null;
    refreshStats();
  }, 250);
}

export function connect() {
  source = new EventSource("/api/events");
  source.onopen = opened;
  source.onerror = () => {
    setState("off");
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(connect, retry);
    retry = Math.min(retry * 1.5, 5000);
  };
  for (const name of ["state", "queued", "started", "progress", "plan", "completed", "failed", "cancelled"]) source.addEventListener(name, heard(name));
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) refreshStats();
});
