// npm's openai: a picture, the list of models, a stream, an edit and an error.
import OpenAI, { toFile } from "openai";

const given = JSON.parse(process.argv.at(-1));
const client = new OpenAI({ baseURL: given.url + "/v1", apiKey: "any", maxRetries: 0 });
const picture = () => toFile(Buffer.from(given.picture, "base64"), "a.png", { type: "image/png" });
const told = (e) => ({ name: e.constructor.name, status: e.status, param: e.param, code: e.code, message: e.message });

const made = await client.images.generate({ prompt: "a fox", size: "64x48", output_format: "jpeg", n: 2 });

const models = [];
for await (const model of client.models.list()) models.push(model.id);

const events = [];
const stream = await client.images.generate({ prompt: "slow fox", size: "64x48", stream: true, partial_images: 2, num_inference_steps: 6 });
for await (const event of stream) events.push(event);

const edited = await client.images.edit({ image: await picture(), mask: await picture(), prompt: "a fox", size: "64x48", n: 1, seed: 5 });
const listed = await client.images.edit({ image: [await picture()], prompt: "a fox", size: "64x48", output_format: "webp" });
const edits = [];
for await (const event of await client.images.edit({ image: await picture(), prompt: "a fox", size: "64x48", stream: true })) edits.push(event.type);

const wrong = await client.images.generate({ prompt: "a fox", size: "17x17" }).catch((e) => e);
const failed = await (async () => {
  for await (const event of await client.images.generate({ prompt: "fail", stream: true })) events.push(event);
})().catch((e) => e);

console.log(JSON.stringify({
  files: made.data.map((d) => d.b64_json), models, events, edits, edited: edited.data[0].b64_json, listed: listed.data[0].b64_json,
  wrong: told(wrong), failed: told(failed),
}));
