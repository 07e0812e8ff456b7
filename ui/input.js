// The picture that the next one starts from: chosen, dropped, pasted or one of the gallery's; how much of it changes, and the mask of where.
import * as api from "./api.js";
import { $, blame, button, el, icon, say, show, text, toast } from "./dom.js";
import { draft, takeInput, change } from "./draft.js";
import { paintMask } from "./mask.js";
import { address, showPicture } from "./picture.js";
import { on } from "./store.js";

let parts = null, busy = false;

/* --- taking one --- */

/** A file of the user's: it is brought to the server, which knows its size then. */
export async function startFromFile(file) {
  if (busy) return;
  busy = true;
  blame("image", "");
  render();
  try {
    takeInput(await api.upload(file));
    say("The next picture starts from this one.");
  } catch (fault) {
    blame("image", fault.message);
    say(fault.message);
  }
  busy = false;
  render();
}

/** A picture that the server has: {id, url, width, height}. */
export function startFrom({ id, url, width, height, prompt }) {
  takeInput({ id, url, width, height });
  if (prompt && !draft.prompt.trim()) change({ prompt });
  document.dispatchEvent(new CustomEvent("view", { detail: "compose" }));
  toast("The next picture starts from this one.");
}

/** As a task's request has it: picture, mask and strength. */
export async function startAsIn({ image, mask, mask_source: source, strength }) {
  if (!image) return takeInput(null);
  const url = `/api/images/${image}`, { width, height } = await createImageBitmap(await api.bytes(url));
  return change({ image: { id: image, url, width, height }, mask: mask ? { id: mask, url: `/api/images/${mask}`, source } : null, strength });
}

/* --- the mask --- */

async function editMask() {
  const image = draft.image, painted = await paintMask(image, draft.mask, api.upload);
  if (painted === undefined || draft.image?.id !== image.id) return; // left as it was
  change({ mask: painted });
  say(painted ? "The mask is kept." : "No mask: all of the picture may change.");
}

/* --- drawing it --- */

function build() {
  parts = { image: el("img", { alt: "The picture it starts from" }), tint: el("span", { class: "tint" }), size: el("p", { class: "fine" }) };
  const look = button([parts.image, parts.tint], editMask, { class: "thumb", "aria-label": "Paint where it changes", title: "Paint where it changes" });
  parts.mask = button("", editMask, { class: "small", id: "mask" });
  const remove = button("Remove", () => {
    takeInput(null);
    $("image").focus();
    say("No picture to start from.");
  }, { class: "small" });
  parts.image.addEventListener("error", () => blame("image", "The server no longer has this picture."));
  $("input-shown").append(look, el("div", { class: "what" }, parts.size, el("div", { class: "buttons" }, parts.mask, remove)));
}

async function tint(mask) {
  const url = mask && mask.source !== "alpha" ? await Promise.resolve(address(mask.url)).catch(() => null) : null;
  parts.tint.style.setProperty("mask-image", url ? `url("${url}")` : "none");
  show(parts.tint, url !== null);
}

function render() {
  const { image, mask } = draft;
  show($("image"), image === null);
  show($("input-shown"), image !== null);
  show($("strength-row"), image !== null);
  $("image").disabled = busy;
  text($("image").lastChild, busy ? "Bringing it …" : "Choose a picture");
  if (!image) return;
  if (parts.image.dataset.url !== image.url) showPicture(parts.image, image.url);
  text(parts.size, `${image.width} × ${image.height}${mask ? " · with a mask" : ""}`);
  parts.mask.replaceChildren(icon("brush"), mask ? "Edit mask" : "Paint a mask");
  tint(mask);
}

export function start() {
  build();
  $("image").prepend(icon("picture"));
  $("image").addEventListener("click", () => $("image-file").click());
  $("image-file").addEventListener("change", () => {
    if ($("image-file").files.length > 0) startFromFile($("image-file").files[0]);
    $("image-file").value = "";
  });
  on("draft", (fields) => {
    if ("image" in fields || "mask" in fields) render();
  });
  render();
}
