// Two small charts over the last minutes, at most a quarter of an hour: how much waited and ran, and how long each task took.
import { el, svg } from "./dom.js";
import { count, seconds } from "./format.js";
import { store } from "./store.js";

const MINUTE = 60_000, LONGEST = 15, W = 300, H = 56;
let span = LONGEST * MINUTE;
const x = (at, now) => W * (1 - (now - at) / span);

/** As far back as something was asked for. */
function chooseSpan(now) {
  const made = [...store.tasks.values()].map((t) => Date.parse(t.created_at)).filter((at) => now - at < LONGEST * MINUTE);
  const minutes = made.length === 0 ? LONGEST : [1, 2, 5, LONGEST].find((m) => now - Math.min(...made) < m * MINUTE);
  span = minutes * MINUTE;
}

function frame(title, summary, children, legend) {
  return el("figure", { class: "chart" },
    el("figcaption", null, el("span", null, title), el("span", { class: "fine" }, summary)),
    svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title}, the last ${span / MINUTE} min: ${summary}` }, ...children),
    el("p", { class: "axis", "aria-hidden": "true" }, el("span", null, `${span / MINUTE} min ago`), legend, el("span", null, "now")));
}

const key = (kind, words) => el("span", { class: `key ${kind}` }, words);

/** Before this page looked, what tasks tell of when they waited and ran stands in for it. */
function past(now) {
  const first = store.samples[0]?.at ?? now, turns = [];
  for (const t of store.tasks.values()) {
    const [made, began, ended] = [t.created_at, t.started_at, t.finished_at].map((s) => (s ? Date.parse(s) : null));
    turns.push([made, 1, 0]);
    if (began) turns.push([began, -1, 1]);
    if (ended) turns.push([ended, began ? 0 : -1, began ? -1 : 0]);
  }
  turns.sort((a, b) => a[0] - b[0]);
  let queued = 0, active = 0;
  const out = [{ at: now - span, queued: 0, active: 0 }];
  for (const [at, q, a] of turns) {
    queued += q;
    active += a;
    if (at >= first) break;
    if (at > now - span) out.push({ at, queued: Math.max(0, queued), active: Math.max(0, active) });
    else out[0] = { at: now - span, queued: Math.max(0, queued), active: Math.max(0, active) };
  }
  return out;
}

function steps(samples, value, high, now) {
  const y = (v) => H - 1 - (H - 6) * Math.min(1, v / high);
  let d = "", last = null;
  for (const s of samples) {
    const at = Math.max(0, x(s.at, now)).toFixed(1);
    d += last === null ? `M${at} ${y(value(s)).toFixed(1)}` : `H${at}V${y(value(s)).toFixed(1)}`;
    last = s;
  }
  return `${d}H${W}`;
}

export function depthChart() {
  const now = Date.now();
  chooseSpan(now);
  const samples = [...past(now), ...store.samples.filter((s) => s.at > now - span)];
  const most = Math.max(0, ...samples.map((s) => s.queued + s.active)), high = Math.max(4, most), last = samples.at(-1);
  const all = steps(samples, (s) => s.queued + s.active, high, now), ran = steps(samples, (s) => s.active, high, now);
  return frame("Queue", last ? `${last.queued} waiting, ${last.active} running, at most ${most}` : "", [
    svg("path", { class: "area queued", d: `${all}V${H}H0Z` }), svg("path", { class: "area active", d: `${ran}V${H}H0Z` }),
    svg("path", { class: "line queued", d: all }),
  ], el("span", null, key("queued", "waiting"), key("active", "running")));
}

const median = (sorted, q = 0.5) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))];

export function latencyChart() {
  const now = Date.now(), rows = [];
  for (const t of store.tasks.values()) {
    const ended = Date.parse(t.finished_at ?? "");
    if (t.status !== "completed" || !(ended > now - span)) continue;
    const began = Date.parse(t.started_at), ran = (ended - began) / 1000;
    rows.push({ at: ended, ran, whole: (ended - Date.parse(t.created_at)) / 1000 });
  }
  const runs = rows.map((r) => r.ran).sort((a, b) => a - b), high = Math.max(0.1, ...rows.map((r) => r.whole));
  const y = (s) => (H - 1 - (H - 6) * Math.sqrt(s / high)).toFixed(1); // roots, so that short ones are seen beside long ones
  const summary = rows.length === 0 ? "none finished" : `${count(rows.length, "task")}, median ${seconds(median(runs))}, worst ${seconds(high)}`;
  const stems = (name, from, to) => svg("path", { class: `stem ${name}`, d: rows.map((r) => `M${x(r.at, now).toFixed(1)} ${from(r)}V${to(r)}`).join("") });
  return frame("Latency", summary, [stems("queued", (r) => y(r.ran), (r) => y(r.whole)), stems("active", () => H, (r) => y(r.ran))],
    el("span", null, key("queued", "waited"), key("active", "ran")));
}
