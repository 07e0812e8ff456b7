// npm's @stable-canvas/comfyui-client: a picture by a workflow, by polling and by its pipeline, the queue, the history, and what an error becomes.
import { BasePipe, Client, Workflow } from "@stable-canvas/comfyui-client";
import WebSocket from "ws";

const given = JSON.parse(process.argv.at(-1));
const client = new Client({ api_host: given.address, WebSocket, fetch });
const [stats] = await Promise.all([client.getSystemStats(), client.connect()]);

function workflow(text, seed, model = "demo.safetensors") {
  const w = new Workflow();
  const cls = w.classes;
  const [loaded, clip, vae] = cls.CheckpointLoaderSimple({ ckpt_name: model });
  const say = (words) => cls.CLIPTextEncode({ text: words, clip })[0];
  const [latent_image] = cls.EmptyLatentImage({ width: given.side, height: given.side, batch_size: 1 });
  const [samples] = cls.KSampler({ seed, steps: given.steps, cfg: 1, sampler_name: "dpmpp_2m", scheduler: "karras", denoise: 1, model: loaded, positive: say(text), negative: say(""), latent_image });
  cls.SaveImage({ filename_prefix: "canvas", images: cls.VAEDecode({ samples, vae })[0] });
  return w;
}

const steps = [];
const made = await client.enqueue(workflow("a fox on a blue background", 5).workflow().prompt, { progress: (p) => steps.push(p.value) });
const polled = await client.enqueue_polling(workflow("a fox on a blue background", 6).workflow().prompt);
const again = await workflow("a fox on a blue background", 5).invoke(client);
const piped = await new BasePipe().with(client).model("demo.safetensors").prompt("a red apple").negative("").size(given.side, given.side).steps(given.steps).cfg(1).seed(9).save("pipe").wait();
const wrong = await client.enqueue(workflow("a fox", 5, "none.safetensors").workflow().prompt).then(() => "made", (e) => ({ status: e.status, answer: e.json }));
const names = (o) => o.images.map((i) => ({ ...i, data: undefined, url: i.data?.startsWith?.("http") ? i.data : undefined }));
console.log(JSON.stringify({
  stats, steps, wrong,
  made: names(made), polled: names(polled), again: names(again), piped: names(piped),
  models: await client.getSDModels(), samplers: await client.getSamplers(), queue: await client.getQueue(),
  history: (await client.getHistory(5)).History.length,
}));
process.stdout.write("", () => process.exit(0)); // its socket would keep it
