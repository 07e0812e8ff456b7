// Puts the page together.
import { $, icon, show, text } from "./dom.js";
import * as compose from "./compose.js";
import * as drop from "./drop.js";
import * as gallery from "./gallery.js";
import * as input from "./input.js";
import * as key from "./key.js";
import * as queue from "./queue.js";
import * as resources from "./resources.js";
import { connect } from "./live.js";
import { active, fraction, on, store } from "./store.js";

/* --- theme --- */

const themes = ["auto", "light", "dark"], themeWords = { auto: "as the system", light: "light", dark: "dark" };

function showTheme() {
  const now = document.documentElement.dataset.theme ?? "auto", button = $("theme");
  button.replaceChildren(icon(now));
  button.setAttribute("aria-label", `Theme: ${themeWords[now]}`);
  button.title = `Theme: ${themeWords[now]}`;
}

function nextTheme() {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % themes.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (next === "auto") localStorage.removeItem("imagined.theme");
    else localStorage.setItem("imagined.theme", next);
  } catch { /* it lasts as long as the page */ }
  showTheme();
}

/* --- state --- */

function stateNow() {
  const s = store.stats;
  if (store.state === "wait") return ["wait", "Connecting"];
  if (store.state === "off") return ["off", "Reconnecting"];
  if (store.state === "locked") return ["off", "Key needed"];
  if (!s) return ["wait", "Connecting"];
  if (store.trouble) return ["off", "Engine fails"];
  if (s.queue.paused) return ["pause", "Paused"];
  if (s.engine.state === "starting") return ["wait", "Engine starting"];
  if (s.queue.active > 0) return ["busy", "Working"];
  return ["on", s.engine.state === "stopped" ? "Asleep" : "Ready"];
}

function showState() {
  const [kind, words] = stateNow(), busy = active();
  $("state").dataset.kind = kind;
  text($("state-text"), words);
  document.body.classList.toggle("offline", store.state === "off" || store.state === "locked");
  showTrouble();
  document.title = busy.length > 0 ? `${Math.round(100 * fraction(busy[0]))} % · imagined` : "imagined";
}

/** What a person has to know to understand why nothing moves. */
function trouble() {
  if (store.state === "off" && store.loaded) return "The server is away. This page goes on by itself once it is back; what you typed is kept.";
  if (store.state === "on" && store.trouble) return `The engine died: ${store.trouble.replace(/\.$/, "")}. It is started again; what waits is kept.`;
  return "";
}

function showTrouble() {
  const words = trouble();
  text($("trouble"), words);
  show($("trouble"), words !== "");
}

/* --- the four views of a small screen --- */

function view(name) {
  document.body.dataset.view = name;
  for (const tab of document.querySelectorAll(".tabs button")) {
    if (tab.dataset.view === name) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
}

/* --- keys for the whole page --- */

function keys(event) {
  if (document.querySelector("dialog[open]:not(#viewer)")) return;
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    event.preventDefault();
    compose.generate();
  } else if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName) && !$("viewer").open) {
    event.preventDefault();
    show($("search"), true);
    $("search").focus();
  }
}

showTheme();
$("theme").addEventListener("click", nextTheme);
for (const tab of document.querySelectorAll(".tabs button")) tab.addEventListener("click", () => view(tab.dataset.view));
document.addEventListener("view", (event) => view(event.detail));
addEventListener("keydown", keys);
on("state stats task progress", showState);
compose.start();
input.start();
drop.start();
key.start();
gallery.start();
queue.start();
resources.start();
connect();
