// Requests to the server. What fails throws a Fault: its `status` (0: not reached), `field` and a text for people.

export class Fault extends Error {
  constructor(message, status = 0, field = null) {
    super(message);
    this.status = status;
    this.field = field;
  }
}

async function fault(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch { /* not ours: a proxy's */ }
  let text = problem.detail ?? problem.title ?? `the server answered ${answer.status}`;
  text = text.replace(/^the request body: /, "");
  const again = answer.headers.get("retry-after");
  if (again && answer.status === 429) text += ` (try again in ${again} s)`;
  return new Fault(text, answer.status, problem.field ?? null);
}

export async function request(method, path, body) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Fault("The server cannot be reached.");
  }
  if (!answer.ok) throw await fault(answer);
  return answer.status === 204 ? null : answer.json();
}

export const submit = (fields) => request("POST", "/api/tasks", fields);
export const cancel = (id) => request("DELETE", `/api/tasks/${id}`);
export const prioritise = (id, priority) => request("PATCH", `/api/tasks/${id}`, { priority });
export const tasks = async (status, limit) => (await request("GET", `/api/tasks?status=${status}&limit=${limit}`)).tasks;
export const stats = () => request("GET", "/api/system/stats");
export const models = async () => (await request("GET", "/api/system/models")).models;
export const preload = (id) => request("POST", `/api/system/models/${encodeURIComponent(id)}/load`);
export const unload = (id) => request("POST", `/api/system/models/${encodeURIComponent(id)}/unload`);
export const cleanup = () => request("POST", "/api/system/cleanup");
export const pause = (on) => request("POST", `/api/system/queue/${on ? "pause" : "resume"}`);
export const deletePicture = (id) => request("DELETE", `/api/images/${encodeURIComponent(id)}`);

/** Whether this server deletes pictures: what it says it takes. */
export async function deletesPictures() {
  try {
    return /DELETE/.test((await fetch("/api/images/0", { method: "OPTIONS" })).headers.get("allow") ?? "");
  } catch {
    return false;
  }
}
