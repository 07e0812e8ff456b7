// What the machine does: memory by use, models and who may leave, how the load went, which choices were made and why.
import * as api from "./api.js";
import { depthChart, latencyChart } from "./charts.js";
import { $, eachFrame, el, reconcile, say, show, text, toast } from "./dom.js";
import { ago, bytes, count } from "./format.js";
import { refreshStats } from "./live.js";
import { on, store } from "./store.js";

const MB = 1 << 20;
const causes = { count: "to stay within the number of models", bytes: "to stay within the cache's size", vram: "because memory ran short", manual: "by hand" };

/* --- memory --- */

/** [{name, bytes, kind, shade}] in the order of the bar. */
function uses(s) {
  const ledger = s.vram.ledger ?? {}, out = [], onCpu = s.vram.device === "cpu";
  let told = 0;
  s.models.models.forEach((m, i) => {
    const own = onCpu ? m.private_bytes : m.vram_bytes;
    told += own;
    if (own > 0) out.push({ name: m.id, bytes: own, kind: "model", shade: Math.max(45, 100 - 22 * i) });
  });
  const more = (name, n, kind) => {
    if (n > 0) out.push({ name, bytes: n, kind });
  };
  more(told > 0 ? "other weights" : "weights", (ledger.weights ?? 0) - told, "model");
  more("compute", (ledger.compute ?? 0) + (ledger.staging ?? 0), "compute");
  more("prompt cache", ledger.cache ?? 0, "cache");
  more("everything else", s.vram.limited ? 0 : (ledger.foreign ?? 0), "foreign");
  if (onCpu) more("mapped weights, reclaimable", s.models.models.reduce((sum, m) => sum + m.mapped_bytes, 0), "mapped");
  return out;
}

let memory;

function drawMemory() {
  const s = store.stats, v = s.vram, total = v.total_vram_mb * MB, list = uses(s);
  if (!memory) {
    memory = { head: el("p", { class: "figure" }), bar: el("div", { class: "memory", role: "img" }), legend: el("ul", { class: "legend", role: "list" }) };
    $("memory").append(memory.head, memory.bar, memory.legend);
  }
  text($("system-title"), v.device === "cpu" ? "Main memory" : "Device memory");
  memory.head.replaceChildren(el("strong", null, bytes(v.used_vram_mb * MB)), ` of ${bytes(total)}${v.limited ? " allowed" : ""}`, el("span", { class: "level", data: { state: v.state } }, `${v.state} · ${Math.round(v.utilization_percent)} %`));
  memory.bar.dataset.state = v.state;
  memory.bar.setAttribute("aria-label", `${Math.round(v.utilization_percent)} percent used, ${v.state}. ${list.map((u) => `${u.name} ${bytes(u.bytes)}`).join(", ")}`);
  const shade = (u) => ({ "--part": u.bytes / total, "--shade": `${u.shade ?? 100}%` });
  memory.bar.replaceChildren(...list.map((u) => el("i", { class: u.kind, title: `${u.name}: ${bytes(u.bytes)}`, vars: shade(u) })));
  memory.legend.dataset.state = v.state;
  memory.legend.replaceChildren(...list.map((u) => el("li", null, el("i", { class: `swatch ${u.kind}`, vars: shade(u) }), el("span", null, u.name), el("span", { class: "amount" }, bytes(u.bytes)))));
}

/* --- models --- */

const rows = new Map();

async function deed(button, f) {
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    await f();
  } catch (fault) {
    toast(fault.message, "bad");
  }
  button.removeAttribute("aria-busy");
  await refreshStats();
  draw();
}

function tellFreed(answer) {
  const all = answer.freed.ram_bytes + answer.freed.vram_bytes, out = answer.models_unloaded.length, kept = answer.skipped_leased.length;
  const words = [all > 0 ? `${bytes(all)} freed` : "Nothing to free"];
  if (out > 0) words.push(`${count(out, "model")} unloaded`);
  if (kept > 0) words.push(`${kept} in use, kept`);
  toast(`${words.join(", ")}.`);
}

function load(m, button) {
  return deed(button, async () => {
    say(`Loading ${m.id}.`);
    await api.load(m.id);
    say(`${m.id} is loaded.`);
  });
}

function modelRow(m) {
  const name = el("p", { class: "words" }), line = el("p", { class: "fine" }), button = el("button", { type: "button", class: "small" });
  const node = el("li", { class: "model" }, el("i", { class: "lamp" }), el("div", { class: "what" }, name, line), button);
  button.addEventListener("click", () => {
    const now = store.models.find((x) => x.id === m.id);
    if (now.state === "available") load(now, button);
    else deed(button, async () => tellFreed(await api.unload(m.id)));
  });
  return { node, update(now) {
    const there = now.state !== "available", left = store.evicted.get(now.id);
    const size = now.cached.length > 0 ? Math.max(...now.cached.map((c) => c.size_bytes)) : now.size_bytes;
    text(name, now.id);
    node.dataset.state = now.state;
    const words = [bytes(size), { available: left ? null : "not loaded", loading: "loading", cached: "idle", in_use: "in use" }[now.state]];
    if (there && now.last_used && now.state === "cached") words.push(`used ${ago(now.last_used)}`);
    if (there && now.cached[0]?.streamed_blocks > 0) words.push(`${now.cached[0].streamed_blocks} blocks streamed`);
    if (!there && left) words.push(`left ${ago(left.at)} ${causes[left.cause] ?? left.cause}`);
    text(line, words.filter(Boolean).join(" · "));
    text(button, there ? "Unload" : "Load");
    button.setAttribute("aria-label", `${there ? "Unload" : "Load"} ${now.id}`);
    if (!button.hasAttribute("aria-busy")) button.disabled = store.state !== "on" || now.state === "in_use" || now.state === "loading";
  } };
}

function drawModels() {
  reconcile($("models"), store.models.map((m) => {
    if (!rows.has(m.id)) rows.set(m.id, modelRow(m));
    rows.get(m.id).update(m);
    return rows.get(m.id).node;
  }));
  const told = Object.entries(store.stats?.models.evictions ?? {}).filter(([, n]) => n > 0).map(([cause, n]) => `${n} ${causes[cause] ?? cause}`);
  text($("evictions"), `Let go so far: ${told.join(", ")}.`);
  show($("evictions"), told.length > 0);
}

/* --- choices --- */

let choicesKey = "";

function drawChoices() {
  const { reasons = {}, ...o } = store.stats.optimizations, e = store.stats.engine;
  const names = [["optimal_dtype", "Numbers"], ["attention", "Attention"], ["vae", "Decoder"], ["tf32", "TF32"]];
  const list = names.filter(([k]) => o[k]).map(([k, name]) => [name, String(o[k]).replace("torch.", ""), reasons[k]]);
  list.unshift(["Device", e.device_name || store.stats.vram.device, e.threads > 0 ? count(e.threads, "thread") : ""]);
  if (JSON.stringify(list) === choicesKey) return;
  choicesKey = JSON.stringify(list);
  $("choices").replaceChildren(...list.flatMap(([name, value, why]) => [el("dt", null, name), el("dd", null, value, why ? el("span", { class: "fine" }, why) : null)]));
}

let chartsAt = 0;

function drawCharts() {
  if (Date.now() - chartsAt < 900) return;
  chartsAt = Date.now();
  $("history").replaceChildren(depthChart(), latencyChart());
}

const draw = eachFrame(() => {
  drawModels();
  $("cleanup").disabled = store.state !== "on";
  if (!store.stats) return;
  drawMemory();
  drawCharts();
  drawChoices();
});

export function start() {
  $("cleanup").addEventListener("click", () => deed($("cleanup"), async () => tellFreed(await api.cleanup())));
  on("stats models state", draw);
}
