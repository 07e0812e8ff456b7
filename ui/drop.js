// Pictures from outside: dropped, pasted or chosen. A dropped one lands on one of two places: its settings are taken over, or the next picture starts from it.
import * as api from "./api.js";
import { use } from "./compose.js";
import { $, show, toast } from "./dom.js";
import { startFrom, startFromFile } from "./input.js";
import { settingsOf } from "./png.js";
import { store } from "./store.js";

/** `from`: starts from the picture instead. */
async function takeSettings(blob, from) {
  const deed = { label: "Start from this picture", run: from };
  try {
    use(await settingsOf(blob), deed);
    document.dispatchEvent(new CustomEvent("view", { detail: "compose" }));
  } catch (error) {
    toast(error.message, "bad", deed);
  }
}

const takeFile = (file) => takeSettings(file, () => startFromFile(file));

/** One of this page's own pictures, by its address. */
async function takeOwn(url, asInput) {
  const id = decodeURIComponent(url.pathname.split("/").at(-1)), known = store.pictures.find((p) => p.id === id);
  try {
    if (asInput && known) startFrom(known);
    else if (asInput) await startFromFile(await api.bytes(url.pathname));
    else await takeSettings(await api.bytes(url.pathname), () => takeOwn(url, true));
  } catch (fault) {
    toast(fault.message, "bad");
  }
}

function ownAddress(transfer) {
  const first = transfer.getData("text/uri-list").split(/\r?\n/)[0];
  if (!first || !URL.canParse(first, location.href)) return null;
  const url = new URL(first, location.href);
  return url.origin === location.origin && url.pathname.startsWith("/api/images/") ? url : null;
}

function land(transfer, asInput) {
  const file = transfer.files[0], own = file ? null : ownAddress(transfer);
  if (file && asInput) {
    document.dispatchEvent(new CustomEvent("view", { detail: "compose" }));
    startFromFile(file);
  } else if (file) takeFile(file);
  else if (own) takeOwn(own, asInput);
}

const carries = (event) => [...(event.dataTransfer?.types ?? [])].some((t) => t === "Files" || t === "text/uri-list");

function listenForDrops() {
  let depth = 0, asInput = false;
  const aim = (event) => { // the right half of the screen, and the field for it
    asInput = event.clientX > innerWidth / 2 || Boolean(event.target.closest?.("#input-box"));
    $("drop-input").classList.toggle("over", asInput);
    $("drop-settings").classList.toggle("over", !asInput);
  };
  addEventListener("dragenter", (event) => {
    if (!carries(event) || $("painter").open) return;
    event.preventDefault();
    depth++;
    show($("drop"), true);
  });
  addEventListener("dragover", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    aim(event);
  });
  addEventListener("dragleave", () => {
    if (--depth > 0) return;
    depth = 0;
    show($("drop"), false);
  });
  addEventListener("drop", (event) => {
    depth = 0;
    if (!carries(event)) return;
    event.preventDefault();
    aim(event);
    show($("drop"), false);
    if (!$("painter").open) land(event.dataTransfer, asInput);
  });
}

/** A picture from the clipboard: a screenshot has no settings, so it is one to start from. */
async function paste(event) {
  const file = [...(event.clipboardData?.files ?? [])].find((f) => f.type.startsWith("image/"));
  if (!file || $("painter").open) return;
  event.preventDefault();
  if (await settingsOf(file).catch(() => null)) takeFile(file);
  else startFromFile(file);
}

export function start() {
  listenForDrops();
  addEventListener("paste", paste);
  $("from-file").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    if ($("file").files.length > 0) takeFile($("file").files[0]);
    $("file").value = "";
  });
}
