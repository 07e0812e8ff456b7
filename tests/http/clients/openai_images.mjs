// npm's openai: a picture, the list of models, and an error.
import OpenAI from "openai";

const given = JSON.parse(process.argv.at(-1));
const client = new OpenAI({ baseURL: given.url + "/v1", apiKey: "any", maxRetries: 0 });

const made = await client.images.generate({ prompt: "a fox", size: "64x48", output_format: "png" });
const models = [];
for await (const model of client.models.list()) models.push(model.id);
const failure = await client.images.generate({ prompt: "a fox", size: "17x17" }).catch((e) => e);

console.log(JSON.stringify({
  file: made.data[0].b64_json, models, failure: { name: failure.constructor.name, status: failure.status, param: failure.param },
}));
