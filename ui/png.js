// Settings out of a PNG: its text chunks (PNG specification 11.3.3), and the `parameters` text that image tools write (the A1111 form); where there is
// none, the graph that ComfyUI writes.
import { parseGraph } from "./comfy.js";

const CHUNK_MAX = 1 << 20; // of text; what is larger is no settings
const latin1 = new TextDecoder("latin1"), utf8 = new TextDecoder();

async function inflate(data) {
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("deflate")), reader = stream.getReader(), parts = [];
  for (let size = 0; ;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > CHUNK_MAX) throw new Error("too much text");
    parts.push(value);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** One text chunk as [keyword, text]. */
async function readChunk(type, data) {
  const end = data.indexOf(0);
  if (end < 1) return null;
  const key = latin1.decode(data.subarray(0, end));
  if (type === "tEXt") return [key, latin1.decode(data.subarray(end + 1))];
  if (type === "zTXt") return [key, latin1.decode(await inflate(data.subarray(end + 2)))];
  const compressed = data[end + 1] === 1, language = data.indexOf(0, end + 3), translated = language < 0 ? -1 : data.indexOf(0, language + 1);
  if (translated < 0) return null;
  const text = data.subarray(translated + 1);
  return [key, utf8.decode(compressed ? await inflate(text) : text)];
}

/** The texts of a PNG by keyword; null where it is no PNG. */
export async function readTexts(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer()), view = new DataView(bytes.buffer), texts = new Map();
  if (bytes.length < 8 || view.getUint32(0) !== 0x89504e47 || view.getUint32(4) !== 0x0d0a1a0a) return null;
  for (let at = 8; at + 12 <= bytes.length;) {
    const size = view.getUint32(at), type = latin1.decode(bytes.subarray(at + 4, at + 8));
    if (type === "IEND" || at + 12 + size > bytes.length) break;
    if (/^(tEXt|zTXt|iTXt)$/.test(type) && size <= CHUNK_MAX) {
      try {
        const entry = await readChunk(type, bytes.subarray(at + 8, at + 8 + size));
        if (entry) texts.set(...entry);
      } catch { /* a damaged text is none */ }
    }
    at += 12 + size;
  }
  return texts;
}

function unquote(value) {
  if (!value.startsWith('"')) return value.trim();
  try {
    return JSON.parse(value);
  } catch {
    return value.slice(1, -1);
  }
}

/** "prompt\nNegative prompt: …\nSteps: 8, Seed: 42, …" as fields of a task; null where it is no such text. */
function parseParameters(text) {
  const lines = text.replaceAll("\r\n", "\n").trimEnd().split("\n");
  const last = lines.findLastIndex((line) => /^Steps: *\d+/.test(line));
  const head = last < 0 ? lines : lines.slice(0, last), given = {};
  if (last >= 0)
    for (const [, key, value] of lines.slice(last).join(" ").matchAll(/\s*([\w .()/-]+):\s*("(?:\\.|[^\\"])*"|[^,]*)(?:,|$)/g)) given[key.trim()] = unquote(value);
  const at = head.findIndex((line) => line.startsWith("Negative prompt:"));
  const prompt = (at < 0 ? head : head.slice(0, at)).join("\n").trim();
  const negative = at < 0 ? "" : head.slice(at).join("\n").slice("Negative prompt:".length).trim();
  if (!prompt && last < 0) return null;
  const number = (key) => (given[key] !== undefined && Number.isFinite(Number(given[key])) ? Number(given[key]) : undefined);
  const size = /^(\d+)x(\d+)$/.exec(given.Size ?? "");
  return {
    prompt,
    negative_prompt: negative,
    num_inference_steps: number("Steps"),
    guidance_scale: number("Distilled CFG Scale") ?? number("CFG scale"),
    true_cfg_scale: number("True CFG scale"),
    seed: /^\d+$/.test(given.Seed ?? "") ? given.Seed : undefined,
    width: size ? Number(size[1]) : undefined,
    height: size ? Number(size[2]) : undefined,
    model: given.Model,
  };
}

/** The settings of a dropped picture; an Error says why there are none. */
export async function settingsOf(blob) {
  const texts = await readTexts(blob);
  if (!texts) throw new Error("Only PNGs carry settings that can be read here, and this is none.");
  const found = parseParameters(texts.get("parameters") ?? "") ?? parseGraph(texts.get("prompt") ?? "");
  if (!found) throw new Error("This picture carries no settings.");
  return found;
}
