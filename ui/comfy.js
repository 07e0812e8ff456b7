// Settings out of a ComfyUI graph in its API form: {"3": {"class_type": "KSampler", "inputs": {"seed": 7, "positive": ["6", 0], …}}, …}, where
// ["6", 0] is the first output of node 6. Read backwards from what is saved, by the names of inputs, so that nodes unknown here do no harm.

const source = (value) => (Array.isArray(value) && value.length === 2 ? String(value[0]) : null);

/** The nodes from `id` backwards, nearest first. */
function* behind(graph, id) {
  const queue = [id], seen = new Set();
  while (queue.length > 0) {
    const at = queue.shift(), node = graph[at];
    if (!node?.inputs || seen.has(at)) continue;
    seen.add(at);
    yield node;
    queue.push(...Object.values(node.inputs).map(source).filter((s) => s !== null));
  }
}

/** The nearest plain value of an input with one of these names. */
function find(graph, id, ...names) {
  for (const node of id === null ? [] : behind(graph, id))
    for (const name of names) {
      const value = node.inputs[name], from = source(value), told = from === null ? value : graph[from]?.inputs?.value;
      if (typeof told === "number" || typeof told === "string") return told;
    }
  return undefined;
}

/** What conditions the sampler: a KSampler has it itself, the guider of a SamplerCustomAdvanced has it for that. */
function conditioning(graph, sampler, name) {
  const guider = graph[source(sampler.inputs.guider)];
  return source(sampler.inputs[name]) ?? source(guider?.inputs[name]) ?? (name === "positive" ? source(guider?.inputs.conditioning) : null);
}

function words(graph, id) {
  if (id === null || /ZeroOut/.test(graph[id]?.class_type)) return "";
  return String(find(graph, id, "text", "t5xxl", "clip_l") ?? "");
}

/** Fields of a task; null where it is no such graph. */
export function parseGraph(json) {
  let graph;
  try {
    graph = JSON.parse(json.replace(/("(?:noise_)?seed":\s*)(\d{16,})/g, '$1"$2"')); // more than a number holds
  } catch {
    return null;
  }
  const ids = Object.keys(graph ?? {}), saves = ids.filter((id) => /^(Save|Preview)Image/.test(graph[id]?.class_type));
  const samplers = (saves.length > 0 ? saves : ids).flatMap((id) => [...behind(graph, id)]).filter((node) => "latent_image" in node.inputs);
  if (samplers.length === 0) return null;
  const sampler = samplers[0], id = ids.find((i) => graph[i] === sampler), number = (...names) => {
    const value = find(graph, id, ...names);
    return value !== undefined && Number.isFinite(Number(value)) ? Number(value) : undefined;
  };
  const seed = find(graph, id, "seed", "noise_seed"), file = find(graph, id, "ckpt_name", "unet_name");
  return {
    prompt: words(graph, conditioning(graph, sampler, "positive")),
    negative_prompt: words(graph, conditioning(graph, sampler, "negative")),
    num_inference_steps: number("steps"),
    guidance_scale: number("guidance"),
    true_cfg_scale: number("cfg"),
    seed: /^\d+$/.test(seed ?? "") ? String(seed) : undefined,
    width: number("width"),
    height: number("height"),
    model: typeof file === "string" ? file.replace(/^.*[\\/]/, "").replace(/\.(safetensors|sft|ckpt|gguf)$/, "") : undefined,
  };
}
