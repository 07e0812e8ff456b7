// The place for an API key: asked for when the server refuses, changed or forgotten with the button in the header.
import { hasKey, setKey } from "./api.js";
import { $, icon, say, show, text } from "./dom.js";
import { hurry } from "./live.js";

const dialog = $("key-dialog");

function render() {
  show($("key"), hasKey());
  show($("key-forget"), hasKey());
}

/** `why`: what is wrong with the one that was sent, if one was. */
function ask(why) {
  text($("key-fault"), why);
  show($("key-fault"), why !== "");
  if (dialog.open) return;
  dialog.showModal();
  $("key-value").focus();
}

/** Whatever was read or shown with another key is not this one's: a new key begins with a fresh page. What was typed is kept. */
function take(value) {
  const had = hasKey();
  setKey(value);
  $("key-value").value = "";
  if (had) return location.reload();
  render();
  dialog.close();
  say("The key is kept in this browser.");
  return hurry();
}

export function start() {
  $("key").append(icon("key"));
  render();
  $("key").addEventListener("click", () => ask(""));
  $("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const value = $("key-value").value.trim();
    if (value !== "") take(value);
  });
  $("key-forget").addEventListener("click", () => take(null));
  $("key-close").addEventListener("click", () => dialog.close());
  document.addEventListener("unauthorized", (event) => ask(event.detail ? "The server does not know this key." : ""));
}
