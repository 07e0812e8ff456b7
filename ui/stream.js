// Server-Sent Events (WHATWG HTML, section 9.2) by fetch: EventSource sends no API key, and does not notice a connection that died silently.
import * as api from "./api.js";

const SILENCE = 40_000; // the server says something every 15 seconds

/** Yields {name, data} until the connection ends. `last.id` is where to go on from, and is kept up to date. `opened` is called once the server has answered. */
export async function* events(path, last, opened) {
  const stop = new AbortController(), decoder = new TextDecoder();
  let timer, rest = "", name = "", id = null, data = [];
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENCE);
  };
  alive();
  try {
    const answer = await api.reach(path, { cache: "no-store", signal: stop.signal, headers: { accept: "text/event-stream", ...(last.id ? { "last-event-id": last.id } : {}) } });
    opened();
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const [, field, text] = /^([^:]*):? ?(.*?)\r?$/.exec(line);
        if (field === "event") name = text;
        else if (field === "data") data.push(text);
        else if (field === "id") id = text;
        else if (field === "" && line.length <= 1 && data.length > 0) {
          if (id !== null) last.id = id; // not before its event is whole
          yield { name, data: data.join("\n") };
          [name, data] = ["", []];
        }
      }
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}
