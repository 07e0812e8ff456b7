// npm's @saintno/comfyui-sdk: a picture from a prompt, the same again, one from a picture, what the server has, and what errors become.
import { CallWrapper, ComfyApi, PromptBuilder } from "@saintno/comfyui-sdk";

const given = JSON.parse(process.argv.at(-1));
const api = new ComfyApi(given.url);
await api.init(5, 500).waitForReady();

function builder(graph, seed) {
  return new PromptBuilder(graph, ["seed"], ["images"]).setInputNode("seed", "3.inputs.seed").setOutputNode("images", "9").input("seed", seed);
}

async function run(graph, seed) {
  const got = { progress: 0, started: false, failures: [] };
  const call = new CallWrapper(api, builder(graph, seed))
    .onStart(() => (got.started = true))
    .onProgress((p) => (got.progress = Math.max(got.progress, p.value)))
    .onFailed((e) => got.failures.push({ name: e.name, message: e.message, cause: e.cause }));
  const output = await call.run();
  if (output === false || output === undefined) return got;
  got.images = output.images.images;
  got.files = await Promise.all(got.images.map(async (i) => Buffer.from(await (await api.getImage(i)).arrayBuffer()).toString("base64")));
  return got;
}

const first = await run(given.graph, 11);
const again = await run(given.graph, 11);
const uploaded = await api.uploadImage(Buffer.from(first.files[0], "base64"), "brought.png", { overwrite: true });
const changed = await run(given.from_picture, 12);
const wrong = await run(given.wrong, 1);
const failed = await run(given.failing, 1);
console.log(JSON.stringify({
  first, again, changed, wrong, failed,
  uploaded: uploaded.info,
  checkpoints: await api.getCheckpoints(),
  samplers: (await api.getSamplerInfo()).sampler[0],
  stats: await api.getSystemStats(),
  freed: await api.freeMemory(true, true),
  queue: await api.getQueue(),
  history: Object.keys(await api.getHistories(10)).length,
  types: await api.getModelTypes(),
}));
process.stdout.write("", () => process.exit(0)); // its socket would keep it
