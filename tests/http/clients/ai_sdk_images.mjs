// npm's ai with @ai-sdk/openai-compatible: pictures, an edit, and an error.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";

const given = JSON.parse(process.argv.at(-1));
const provider = createOpenAICompatible({ name: "imagined", baseURL: given.url + "/v1", apiKey: "any" });
const model = provider.imageModel("demo");

const made = await generateImage({ model, prompt: "a fox", size: "64x48", n: 2, providerOptions: { imagined: { num_inference_steps: 2, output_format: "webp" } } });
const edited = await generateImage({
  model, size: "64x48", prompt: { text: "a fox", images: [Buffer.from(given.picture, "base64")], mask: Buffer.from(given.picture, "base64") },
});
const failure = await generateImage({ model, prompt: "a fox", size: "17x17", maxRetries: 0 }).catch((e) => e);

console.log(JSON.stringify({
  files: made.images.map((i) => ({ type: i.mediaType, data: i.base64 })), edited: edited.image.base64,
  failure: { name: failure.name, status: failure.statusCode, message: failure.message },
}));
