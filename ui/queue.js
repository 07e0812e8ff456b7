// What runs, what waits, what failed. A waiting task is given another priority by dragging its handle, by its menu, or with Alt and the arrow keys.
import * as api from "./api.js";
import { $, button, eachFrame, el, icon, keep, kept, reconcile, say, show, text, toast } from "./dom.js";
import { count, seconds, title } from "./format.js";
import { refreshStats } from "./live.js";
import { livePicture } from "./picture.js";
import { active, eta, fraction, isActive, on, put, store, waiting } from "./store.js";
import { useTask } from "./compose.js";

const priorities = ["urgent", "high", "normal", "low"];
const SHOWN = 60;
const rows = new Map(), groups = new Map();
let dismissed = kept("dismissed", []), dragging = null;

/* --- what is said of a task --- */

/** "step 5/12 · 0.42 s/it · 3 s left" */
function describe(task) {
  const p = task.progress, parts = [], left = eta(task);
  if (task.cancel_requested) return "stopping";
  if (p.phase === "load") parts.push(p.bytes_total ? `loading the model, ${Math.floor((100 * p.bytes) / p.bytes_total)} %` : "loading the model");
  else if (p.phase === "encode") parts.push("reading the prompt");
  else if (p.phase === "denoise") parts.push(`step ${p.step}/${p.steps}`);
  else if (p.phase === "decode") parts.push("decoding");
  else parts.push("starting");
  if (p.n > 1 && p.image > 0) parts.push(`picture ${p.image + 1} of ${p.n}`);
  else if (p.n > 1) parts.push(count(p.n, "picture"));
  if (p.phase === "denoise" && task.pace?.seconds) parts.push(pace(task.pace.seconds));
  if (left !== null && left > 0.5) parts.push(`${seconds(left)} left`);
  return parts.join(" · ");
}

const pace = (s) => (s >= 0.095 ? `${s.toFixed(s < 9.95 ? 2 : 1)} s/it` : `${(1 / s).toFixed(0)} it/s`);

function describeWaiting(task) {
  const left = eta(task), parts = [];
  if (task.suspended) parts.push("set aside for an urgent one");
  else if (task.position) parts.push(task.position === 1 ? "next" : `place ${task.position}`);
  if (left !== null && !store.stats?.queue.paused) parts.push(`ready in ${seconds(Math.max(1, left))}`);
  if (task.effective_priority && task.effective_priority !== task.priority) parts.push(`raised to ${task.effective_priority}`);
  if (task.request.n > 1) parts.push(count(task.request.n, "picture"));
  return parts.join(" · ");
}

/** What several panels show of a task under way: what it looks like by now, its prompt, a bar and a line. */
export function watch(task) {
  const image = el("img", { class: "glance", alt: "", hidden: true, draggable: "false" }), see = livePicture(image), done = el("i");
  const parts = { image, words: el("span", { class: "words", title: task.request.prompt }, task.request.prompt), bar: el("span", { class: "progress" }, done), line: el("span", { class: "fine" }) };
  parts.update = (t) => {
    if (t.preview) see(t.preview.url);
    done.style.setProperty("--done", fraction(t));
    text(parts.line, describe(t));
  };
  return parts;
}

/* --- deeds --- */

export async function stop(task) {
  try {
    put(await api.cancel(task.id));
    say("Cancelled.");
  } catch (fault) {
    if (fault.status !== 409) toast(fault.message, "bad");
  }
}

async function move(task, priority) {
  if (priority === task.priority) return;
  try {
    put(await api.prioritise(task.id, priority));
    say(`Priority ${priority}.`);
  } catch (fault) {
    toast(fault.message, "bad");
    draw();
  }
}

async function togglePause() {
  try {
    await api.pause(!store.stats.queue.paused);
    await refreshStats();
    say(store.stats.queue.paused ? "The queue is paused." : "The queue goes on.");
  } catch (fault) {
    toast(fault.message, "bad");
  }
}

/* --- rows --- */

function cancelButton(task) {
  return button(icon("close"), () => stop(store.tasks.get(task.id) ?? task), { class: "quiet icon-only", "aria-label": `Cancel: ${task.request.prompt}`, title: "Cancel" });
}

function activeRow(task) {
  const { image, words, bar, line, update } = watch(task);
  const node = el("li", { class: "task running", data: { id: task.id } }, image, el("div", { class: "what" }, words, bar, line), cancelButton(task));
  Object.assign(bar, { role: "progressbar", ariaLabel: `Progress: ${task.request.prompt}`, ariaValueMin: 0, ariaValueMax: 100 });
  return { kind: "active", node, update: (t) => {
    update(t);
    Object.assign(bar, { ariaValueNow: Math.round(100 * fraction(t)), ariaValueText: describe(t) });
    node.querySelector("button").disabled = Boolean(t.cancel_requested);
  } };
}

function waitingRow(task) {
  const line = el("p", { class: "fine" });
  const choice = el("select", { class: "mini", "aria-label": `Priority of: ${task.request.prompt}`, onchange: () => move(store.tasks.get(task.id), choice.value) },
    priorities.map((p) => el("option", { value: p }, title(p))));
  const handle = el("span", { class: "handle", title: "Drag to another priority", "aria-hidden": "true", onpointerdown: (event) => drag(event, task.id, node) }, icon("grip"));
  const node = el("li", { class: "task", tabindex: "0", data: { id: task.id }, "aria-keyshortcuts": "Alt+ArrowUp Alt+ArrowDown Delete", onkeydown: (event) => keys(event, task.id, node) },
    handle, el("div", { class: "what" }, el("p", { class: "words", title: task.request.prompt }, task.request.prompt), line), choice, cancelButton(task));
  return { kind: "waiting", node, update: (t) => {
    text(line, describeWaiting(t));
    if (choice !== document.activeElement) choice.value = t.priority;
  } };
}

function row(task, make, kind) {
  let r = rows.get(task.id);
  if (!r || r.kind !== kind) rows.set(task.id, (r = make(task)));
  r.update(task);
  return r.node;
}

function keys(event, id, node) {
  const task = store.tasks.get(id), at = priorities.indexOf(task?.priority);
  if (!task || event.target !== node) return;
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (event.altKey && step) {
    const to = priorities[at + step];
    if (to) move(task, to).then(() => requestAnimationFrame(() => requestAnimationFrame(() => rows.get(id)?.node.focus())));
  } else if (step) {
    const all = [...document.querySelectorAll("#queue-body li.task[tabindex]")];
    all[all.indexOf(node) + step]?.focus();
  } else if (event.key === "Delete") {
    stop(task);
  } else return;
  event.preventDefault();
}

/* --- dragging, with a mouse, a pen or a finger --- */

function drag(event, id, node) {
  if (event.button !== 0) return;
  event.preventDefault();
  const from = event.clientY, start = node.getBoundingClientRect().top, handle = event.currentTarget;
  let over = null;
  handle.setPointerCapture(event.pointerId);
  dragging = id;
  node.classList.add("dragged");
  draw.now(); // every priority becomes a place to drop it, which moves rows: the dragged one stays under the pointer
  const move_ = (e) => {
    node.style.transform = "";
    const now = node.getBoundingClientRect().top;
    node.style.transform = `translateY(${e.clientY - from + start - now}px)`;
    over = document.elementsFromPoint(e.clientX, e.clientY).map((n) => n.closest(".group")).find(Boolean);
    for (const g of groups.values()) g.node.classList.toggle("over", g.node === over);
  };
  const end = (e) => {
    handle.removeEventListener("pointermove", move_);
    for (const name of ["pointerup", "pointercancel"]) handle.removeEventListener(name, end);
    removeEventListener("keydown", escape);
    node.classList.remove("dragged");
    node.style.transform = "";
    for (const g of groups.values()) g.node.classList.remove("over");
    dragging = null;
    const task = store.tasks.get(id);
    if (e.type === "pointerup" && over && task) move(task, over.dataset.priority);
    draw();
  };
  const escape = (e) => {
    if (e.key === "Escape") end(e);
  };
  move_(event);
  handle.addEventListener("pointermove", move_);
  for (const name of ["pointerup", "pointercancel"]) handle.addEventListener(name, end);
  addEventListener("keydown", escape);
}

/* --- the panel --- */

function group(priority) {
  if (!groups.has(priority)) {
    const list = el("ul", { role: "list" });
    groups.set(priority, { list, node: el("div", { class: "group", data: { priority } }, el("h3", null, title(priority)), list) });
  }
  return groups.get(priority);
}

function failedRow(task) {
  const dismiss = () => {
    dismissed = [...dismissed.slice(-200), task.id];
    keep("dismissed", dismissed);
    draw();
  };
  const node = el("li", { class: "task failed", data: { id: task.id } },
    el("div", { class: "what" }, el("p", { class: "words", title: task.request.prompt }, task.request.prompt), el("p", { class: "fault" }, task.error?.detail ?? "It failed."),
      button("Use its settings", () => useTask(task), { class: "link" })),
    button(icon("close"), dismiss, { class: "quiet icon-only", "aria-label": `Dismiss: ${task.request.prompt}`, title: "Dismiss" }));
  return { kind: "failed", node, update() {} };
}

const failures = () => [...store.tasks.values()].filter((t) => t.status === "failed" && !dismissed.includes(t.id) && Date.now() - Date.parse(t.finished_at) < 86400e3)
  .sort((a, b) => (a.finished_at < b.finished_at ? 1 : -1)).slice(0, 5);

const running = el("ul", { role: "list", "aria-label": "Running" }), failing = el("ul", { role: "list", "aria-label": "Failed" });
const none = el("p", { class: "none" }, "Nothing waits."), rest = el("p", { class: "fine" });

function drawNow() {
  const act = active(), wait = waiting(), bad = failures(), parts = [];
  let hidden = wait.length < SHOWN ? 0 : Math.max(0, (store.stats?.queue.queued ?? 0) - wait.length);
  reconcile(running, act.map((t) => row(t, activeRow, "active")));
  if (act.length > 0) parts.push(running);
  for (const p of priorities) {
    const all = wait.filter((t) => t.priority === p), mine = all.slice(0, SHOWN);
    hidden += all.length - mine.length;
    if (mine.length === 0 && !dragging) continue;
    const g = group(p);
    reconcile(g.list, mine.map((t) => row(t, waitingRow, "waiting")));
    parts.push(g.node);
  }
  if (hidden > 0) {
    text(rest, `and ${hidden} more`);
    parts.push(rest);
  }
  reconcile(failing, bad.map((t) => row(t, failedRow, "failed")));
  if (bad.length > 0) parts.push(failing);
  if (parts.length === 0) parts.push(none);
  const total = act.length + wait.length;
  reconcile($("queue-body"), parts);
  for (const id of rows.keys()) if (!store.tasks.has(id)) rows.delete(id);
  text($("queue-count"), total > 0 ? String(total) : "");
  text($("queue-badge"), String(total));
  show($("queue-badge"), total > 0);
}

/* --- on a phone: what is being made, above the button that asked for it --- */

let strip = null;

function drawStrip() {
  const [task] = active();
  show($("now"), Boolean(task));
  if (!task) return void (strip = null);
  if (strip?.id !== task.id) {
    strip = { id: task.id, ...watch(task) };
    $("now").replaceChildren(strip.image, el("span", { class: "what" }, strip.words, strip.line));
  }
  strip.update(task);
}

const draw = eachFrame(drawNow);
draw.now = drawNow;

function drawPause() {
  const q = store.stats?.queue, toggle = $("pause");
  toggle.disabled = !q || store.state !== "on";
  text(toggle, q?.paused ? "Resume" : "Pause");
  toggle.classList.toggle("strong", Boolean(q?.paused));
  show($("paused"), Boolean(q?.paused));
  if (q?.paused) text($("paused"), `Paused: ${q.pause_reason}.`);
}

export function start() {
  $("pause").addEventListener("click", togglePause);
  on("task", draw);
  on("stats", draw);
  on("progress", (task) => rows.get(task.id)?.update(task));
  on("task progress", eachFrame(drawStrip));
  $("now").addEventListener("click", () => document.dispatchEvent(new CustomEvent("view", { detail: "pictures" })));
  on("stats state", drawPause);
  on("task", (task, before, quietly) => {
    if (!task || quietly || before === task.status) return;
    if (task.status === "completed") say(`Finished: ${task.request.prompt}`);
    if (task.status === "failed") say(`Failed: ${task.request.prompt}. ${task.error?.detail ?? ""}`);
  });
  setInterval(() => {
    for (const task of store.tasks.values()) if (isActive(task) || task.status === "queued") rows.get(task.id)?.update(task);
  }, 1000);
}
