// The editor of a mask: what is painted is what changes. Strokes are kept, so that they can be taken back; the server gets a PNG of the picture's size (at
// most 2048 a side), white where it is painted and black elsewhere.
import { $, button, el, icon, say, show, text } from "./dom.js";
import { address, showPicture } from "./picture.js";

const SIDE_MAX = 2048, dialog = $("painter");
let parts = null, tool = "paint", brush = 0.12; // of the picture's shorter side
let strokes = [], undone = [], ground = null; // ground: the mask that was there, as a canvas
let pen = { x: 0, y: 0, shown: false }, stroke = null, spaceHeld = false; // in pixels of the canvas
let finish = null, unsure = false;

const paper = el("canvas"), ink = paper.getContext("2d", { willReadFrequently: true });

/* --- strokes --- */

function draw(s, from = 0) {
  ink.globalCompositeOperation = { erase: "destination-out", invert: "source-out" }[s.tool] ?? "source-over";
  if (s.tool === "clear") return ink.clearRect(0, 0, paper.width, paper.height);
  if (s.tool === "invert") return ink.fillRect(0, 0, paper.width, paper.height);
  ink.lineWidth = s.width;
  ink.beginPath();
  ink.moveTo(...s.points[from]);
  for (const point of s.points.slice(from)) ink.lineTo(...point);
  return ink.stroke();
}

/** The canvas forgets its settings with its size. The colour is the page's accent: only how opaque a pixel is counts. */
function prime() {
  const colour = getComputedStyle(dialog).getPropertyValue("--paint").trim();
  Object.assign(ink, { lineCap: "round", lineJoin: "round", strokeStyle: colour, fillStyle: colour });
}

function redraw() {
  ink.globalCompositeOperation = "source-over";
  ink.clearRect(0, 0, paper.width, paper.height);
  if (ground) ink.drawImage(ground, 0, 0, paper.width, paper.height);
  strokes.forEach((s) => draw(s));
  refresh();
}

function refresh() {
  parts.undo.disabled = strokes.length === 0;
  parts.redo.disabled = undone.length === 0;
  for (const name of ["paint", "erase"]) parts[name].setAttribute("aria-pressed", String(tool === name));
  unsure = false;
  text(parts.cancel, "Cancel");
}

function add(s) {
  strokes.push(s);
  undone = [];
  refresh();
}

function whole(kind) {
  add({ tool: kind });
  draw(strokes.at(-1));
  tellShare();
}

function back(from, to) {
  if (from.length === 0) return;
  to.push(from.pop());
  redraw();
  tellShare();
}

const undo = () => back(strokes, undone);
const redo = () => back(undone, strokes);

/* --- the mask as pixels --- */

/** How much is painted, 0…1. */
function share() {
  const { data } = ink.getImageData(0, 0, paper.width, paper.height);
  let sum = 0;
  for (let i = 3; i < data.length; i += 4) sum += data[i];
  return sum / 255 / (paper.width * paper.height);
}

function tellShare() {
  const part = share(), words = part === 0 ? "nothing is painted" : `${part < 0.01 ? "under 1" : Math.round(100 * part)} % is painted`;
  text(parts.share, words);
}

function asPng() {
  const out = el("canvas", { width: paper.width, height: paper.height }), c = out.getContext("2d");
  c.drawImage(paper, 0, 0);
  c.globalCompositeOperation = "source-in";
  c.fillStyle = "#fff";
  c.fillRect(0, 0, out.width, out.height);
  c.globalCompositeOperation = "destination-over";
  c.fillStyle = "#000";
  c.fillRect(0, 0, out.width, out.height);
  return new Promise((done) => out.toBlob(done, "image/png"));
}

/** A stored mask back on a canvas: how light a pixel is, or how transparent, becomes how opaque. */
async function readMask(mask) {
  const image = new Image();
  image.src = await address(mask.url);
  await image.decode();
  const out = el("canvas", { width: paper.width, height: paper.height }), c = out.getContext("2d");
  c.drawImage(image, 0, 0, out.width, out.height);
  const pixels = c.getImageData(0, 0, out.width, out.height);
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i + 3] = mask.source === "alpha" ? 255 - pixels.data[i + 3] : pixels.data[i];
  c.putImageData(pixels, 0, 0);
  c.globalCompositeOperation = "source-in";
  c.fillStyle = ink.fillStyle;
  c.fillRect(0, 0, out.width, out.height);
  return out;
}

/* --- painting --- */

const width = () => Math.max(2, brush * Math.min(paper.width, paper.height));

function at(event) {
  const box = paper.getBoundingClientRect();
  return [((event.clientX - box.left) * paper.width) / box.width, ((event.clientY - box.top) * paper.height) / box.height];
}

function begin(point) {
  stroke = { tool, width: width(), points: [point] };
  add(stroke);
  draw(stroke);
}

function extend(point) {
  stroke.points.push(point);
  draw(stroke, stroke.points.length - 2);
}

function end() {
  if (!stroke) return;
  stroke = null;
  tellShare();
}

function showBrush() {
  const box = paper.getBoundingClientRect(), scale = box.width / paper.width, ring = parts.ring.style;
  show(parts.ring, pen.shown);
  ring.setProperty("--across", `${width() * scale}px`);
  ring.setProperty("--x", `${pen.x * scale}px`);
  ring.setProperty("--y", `${pen.y * scale}px`);
}

function resize(to) {
  brush = Math.min(0.6, Math.max(0.01, to));
  parts.size.value = Math.round(Math.sqrt(brush) * 100); // small sizes need finer steps
  showBrush();
}

function listenToPointer() {
  const board = parts.board;
  board.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || stroke) return;
    event.preventDefault();
    board.focus({ preventScroll: true });
    board.setPointerCapture(event.pointerId);
    begin(at(event));
  });
  board.addEventListener("pointermove", (event) => {
    [pen.x, pen.y] = at(event);
    pen.shown = event.pointerType !== "touch";
    if (stroke && board.hasPointerCapture(event.pointerId)) {
      const all = event.getCoalescedEvents?.() ?? [];
      for (const e of all.length > 0 ? all : [event]) extend(at(e));
    }
    showBrush();
  });
  for (const name of ["pointerup", "pointercancel"]) board.addEventListener(name, end);
  board.addEventListener("pointerleave", () => {
    pen.shown = document.activeElement === board && board.matches(":focus-visible");
    showBrush();
  });
}

/** With the board in focus: arrows move the brush, with Shift finer; it paints while the space bar is held. */
function boardKeys(event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (way && !event.ctrlKey && !event.metaKey) {
    const by = event.shiftKey ? 1 : Math.max(1, width() / 4);
    pen = { x: Math.min(paper.width, Math.max(0, pen.x + way[0] * by)), y: Math.min(paper.height, Math.max(0, pen.y + way[1] * by)), shown: true };
    if (spaceHeld && stroke) extend([pen.x, pen.y]);
  } else if (event.key === " ") {
    if (!spaceHeld && !stroke) begin([pen.x, pen.y]);
    spaceHeld = true;
    pen.shown = true;
  } else return;
  event.preventDefault();
  showBrush();
}

function choose(name) {
  tool = name;
  refresh();
}

function keys(event) {
  const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
  if (command && key === "z") (event.shiftKey ? redo : undo)();
  else if (command && key === "y") redo();
  else if (command && key === "enter") done();
  else if (command || event.altKey) return;
  else if (key === "b") choose("paint");
  else if (key === "e") choose("erase");
  else if (key === "[") resize(brush * 0.8);
  else if (key === "]") resize(brush * 1.25);
  else return;
  event.preventDefault();
  event.stopPropagation();
}

/* --- the dialog --- */

function close(result) {
  const tell = finish;
  finish = null;
  dialog.close();
  tell?.(result);
}

/** A mask that took work is not thrown away by one key. */
function cancel() {
  if (strokes.length > 0 && !unsure) {
    refresh();
    unsure = true;
    text(parts.cancel, "Discard changes?");
    parts.cancel.focus();
    return;
  }
  close(undefined);
}

async function done() {
  if (strokes.length === 0) return close(undefined);
  if (share() === 0) return close(null);
  parts.done.disabled = true;
  try {
    close(await parts.store(await asPng()));
  } catch (fault) {
    text(parts.fault, fault.message);
    show(parts.fault, true);
  }
  parts.done.disabled = false;
  return undefined;
}

function build() {
  const small = (name, label, f, keys) => button(icon(name), f, { class: "quiet icon-only", "aria-label": label, title: `${label} (${keys})` });
  parts = {
    image: el("img", { alt: "", draggable: "false" }),
    ring: el("span", { class: "ring" }),
    paint: button("Paint", () => choose("paint"), { title: "Paint (B)" }),
    erase: button("Erase", () => choose("erase"), { title: "Erase (E)" }),
    size: el("input", { type: "range", min: 10, max: 77, step: 1, "aria-label": "Brush size", title: "Brush size ([ and ])" }),
    undo: small("undo", "Undo", undo, "Ctrl+Z"),
    redo: small("redo", "Redo", redo, "Ctrl+Shift+Z"),
    share: el("p", { class: "fine", role: "status" }),
    fault: el("p", { class: "fault", role: "alert", hidden: true }),
    cancel: button("Cancel", cancel),
    done: button("Use mask", done, { class: "primary" }),
  };
  parts.board = el("div", { class: "board", role: "application", tabindex: "0", "aria-label": "The mask over its picture. Arrow keys move the brush, it paints while the space bar is held." },
    parts.image, paper, parts.ring);
  dialog.append(
    el("div", { class: "tools", role: "toolbar", "aria-label": "Brush" }, el("div", { class: "joined" }, parts.paint, parts.erase), parts.size, el("span", { class: "pack" }, parts.undo, parts.redo),
      el("span", { class: "pack" }, button("Invert", () => whole("invert"), { class: "quiet" }), button("Clear", () => whole("clear"), { class: "quiet" }))),
    el("div", { class: "stage" }, parts.board),
    el("div", { class: "finish" }, el("div", { class: "what" }, el("h2", { id: "painter-title" }, "Paint what is to change"), parts.share, parts.fault), parts.cancel, parts.done));
  parts.size.addEventListener("input", () => resize((Number(parts.size.value) / 100) ** 2));
  parts.board.addEventListener("keydown", boardKeys);
  parts.board.addEventListener("keyup", (event) => {
    if (event.key !== " ") return;
    spaceHeld = false;
    end();
  });
  parts.board.addEventListener("blur", () => {
    spaceHeld = false;
    end();
  });
  dialog.addEventListener("keydown", keys);
  dialog.addEventListener("cancel", (event) => {
    event.preventDefault();
    cancel();
  });
  dialog.addEventListener("close", () => finish && close(undefined)); // a browser may insist
  listenToPointer();
}

/** Opens over `image`, with `mask` (or null) in it. Once it is closed: null where nothing is painted, undefined where nothing changed, else what `store` made of
 * the PNG; while that fails it stays open and says why. */
export async function paintMask(image, mask, store) {
  if (!parts) build();
  const scale = Math.min(1, SIDE_MAX / Math.max(image.width, image.height));
  Object.assign(paper, { width: Math.max(1, Math.round(image.width * scale)), height: Math.max(1, Math.round(image.height * scale)) });
  Object.assign(parts, { store });
  [strokes, undone, ground, stroke, spaceHeld, tool] = [[], [], null, null, false, "paint"];
  pen = { x: paper.width / 2, y: paper.height / 2, shown: false };
  parts.board.style.setProperty("--a", image.width / image.height);
  show(parts.fault, false);
  showPicture(parts.image, image.url);
  dialog.showModal();
  prime();
  parts.board.focus({ preventScroll: true });
  try {
    if (mask) ground = await readMask(mask);
  } catch {
    say("The mask that was there is gone.");
  }
  redraw();
  tellShare();
  resize(brush);
  return new Promise((tell) => { finish = tell; });
}
