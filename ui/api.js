// Requests to the server. What fails throws a Fault: its `status` (0: not reached), `field` and a text for people.
import { keep, kept } from "./dom.js";
import { title } from "./format.js";

export class Fault extends Error {
  constructor(message, status = 0, field = null) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

/* --- the API key --- */

let key = kept("key", null);

export const hasKey = () => key !== null;

/** `value`: null forgets it. It stays in this browser and goes to this server only. */
export function setKey(value) {
  key = value;
  keep("key", value);
}

/* --- requests --- */

async function fault(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch { /* not ours: a proxy's */ }
  let text = problem.detail ?? problem.title ?? `the server answered ${answer.status}`;
  text = text.replace(/^the request body: /, "");
  const again = answer.headers.get("retry-after");
  if (again && answer.status === 429) text += ` (try again in ${again} s)`;
  return new Fault(title(text), answer.status, problem.field ?? null);
}

/** The answer, if it is one of success. `how` as fetch takes it. "omit": else browsers ask for a password by themselves when they see a 401. */
export async function reach(path, how = {}) {
  const headers = { ...how.headers, ...(key === null ? {} : { authorization: `Bearer ${key}` }) };
  let answer;
  try {
    answer = await fetch(path, { credentials: "omit", ...how, headers });
  } catch (reason) {
    if (reason.name === "AbortError") throw reason;
    throw new Fault("The server cannot be reached.");
  }
  if (answer.status === 401) document.dispatchEvent(new CustomEvent("unauthorized", { detail: key !== null }));
  if (!answer.ok) throw await fault(answer);
  return answer;
}

export async function request(method, path, body) {
  const how = body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await reach(path, { method, ...how });
  return answer.status === 204 ? null : answer.json();
}

const part = encodeURIComponent;
export const submit = (fields) => request("POST", "/api/tasks", fields);
export const cancel = (id) => request("DELETE", `/api/tasks/${id}`);
export const prioritise = (id, priority) => request("PATCH", `/api/tasks/${id}`, { priority });
export const task = (id) => request("GET", `/api/tasks/${part(id)}`);
export const tasks = async (status, limit) => (await request("GET", `/api/tasks?status=${status}&limit=${limit}`)).tasks;
export const stats = () => request("GET", "/api/system/stats");
export const health = () => request("GET", "/health");
export const models = async () => (await request("GET", "/api/system/models")).models;
export const load = (id) => request("POST", `/api/system/models/${part(id)}/load`);
export const unload = (id) => request("POST", `/api/system/models/${part(id)}/unload`);
export const cleanup = () => request("POST", "/api/system/cleanup");
export const pause = (on) => request("POST", `/api/system/queue/${on ? "pause" : "resume"}`);

/* --- pictures --- */

/** Made pictures, newest first: {images, next}. `before`: the `next` of the page before. */
export const pictures = (limit, before) => request("GET", `/api/images?kind=picture&limit=${limit}${before ? `&before=${part(before)}` : ""}`);
export const deletePicture = (id) => request("DELETE", `/api/images/${part(id)}`);
export const bytes = async (url) => (await reach(url)).blob();
/** Brings a picture: the document of the input that it is now. */
export const upload = async (blob) => (await reach("/api/images", { method: "POST", body: blob })).json();
