// Keeps the store true: one stream of events, lists after each (re)connection, figures every other second while the page is seen.
import * as api from "./api.js";
import { active, addPictures, emit, forget, isFinal, picturesOf, present, progress, put, putFirstPage, putNextPage, putStats, setState, store, waiting } from "./store.js";
import { events } from "./stream.js";

const LIST = 200, PAGE = 100, PAGE_AT_MOST = 1000;
let relist, statsTimer, modelsAt = 0, modelsKey = "";

/* --- lists --- */

/** Tasks that ended lately: the charts show them, the queue says what failed. */
async function loadFinished() {
  const [done, failed] = await Promise.all([api.tasks("completed", LIST), api.tasks("failed", 20)]);
  for (const t of [...done, ...failed]) put(t, true);
  emit("task", null, null, true);
}

async function loadPictures() {
  putFirstPage(await api.pictures(PAGE));
}

let paging = null;

/** The next page of pictures, or, for a search, all there are. */
export function loadOlder(all = false) {
  paging ??= (async () => {
    do putNextPage(await api.pictures(all ? PAGE_AT_MOST : PAGE, store.older));
    while (all && store.older);
  })().catch(() => {}).finally(() => { paging = null; });
  return paging;
}

/** Places and estimates of those that wait move with every task that starts or ends; no event says so. */
async function listWaiting() {
  relist = null;
  const known = waiting(), asked = performance.now();
  const [queued, running, loading] = await Promise.all([api.tasks("queued", LIST), api.tasks("running", 50), api.tasks("loading", 50)]);
  const all = [...queued, ...running, ...loading], now = new Set(all.map((t) => t.id));
  const newer = (id) => store.tasks.get(id)?.received > asked; // an event overtook the answer
  for (const t of all) if (!newer(t.id)) put(t, true);
  if (queued.length < LIST) for (const t of known) if (!now.has(t.id) && store.tasks.get(t.id)?.status === "queued" && !newer(t.id)) forget(t.id);
}

function relistSoon(ms = 300) {
  relist ??= setTimeout(() => listWaiting().catch(() => { relist = null; }), ms);
}

async function loadModels() {
  store.models = await api.models();
  modelsAt = Date.now();
  emit("models");
}

/* --- figures --- */

export async function refreshStats() {
  clearTimeout(statsTimer);
  try {
    if (store.state === "on" && !document.hidden) {
      const stats = await api.stats();
      store.trouble = stats.engine.state === "ready" ? null : (await api.health()).engine_error;
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

let soon;
function refreshStatsSoon() {
  soon ??= setTimeout(() => {
    soon = null;
    refreshStats();
  }, 250);
}

/* --- the stream --- */

function opened() {
  setState("on");
  for (const load of [loadFinished, loadPictures, loadModels]) load().catch(() => {});
  refreshStats();
}

function heard({ name, data: words }) {
  const data = JSON.parse(words);
  if (name === "completed") addPictures(picturesOf(data));
  if (name === "state") present(data.tasks, data.complete);
  else if (name === "progress") progress(data);
  else put(data);
  if (name === "state" || name === "queued" || name === "started" || (data.status && isFinal(data))) {
    relistSoon();
    if (name !== "queued" && name !== "state") refreshStatsSoon();
  }
}

let wake = () => {};

/** Tries to connect at once. */
export const hurry = () => wake();

const pause = (ms) => new Promise((done) => {
  const timer = setTimeout(done, ms);
  wake = () => {
    clearTimeout(timer);
    done();
  };
});

/** Never returns. A key that is needed is waited for: `hurry` says that there is one. */
export async function connect() {
  const last = { id: null };
  for (let retry = 1000; ; retry = Math.min(retry * 1.5, 5000)) {
    let state = "off";
    try {
      const all = events("/api/events", last, () => {
        retry = 700;
        opened();
      });
      for await (const event of all) heard(event);
    } catch (fault) {
      if (fault.status === 401) state = "locked";
    }
    setState(state);
    await pause(state === "locked" ? 3_600_000 : retry);
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  if (store.state === "off") hurry();
  refreshStats();
});
addEventListener("online", hurry);
