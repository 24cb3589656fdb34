// Beside the page, so that it stays responsive: decodes files and, where the page holds a model,
// computes masks with ONNX Runtime.

const KEPT = 2;
const kept = new Map(); // the images last computed, for the threshold to be moved

let session = null;
let model = null;

async function inflate(base64) {
  const stream = new Blob([fromBase64(base64)]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

async function start(message) {
  model = message.model;
  const { env, InferenceSession } = onnxruntime();
  env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const [wasm, graph] = await Promise.all([inflate(message.wasm), inflate(message.graph)]);
  env.wasm.wasmBinary = wasm;
  const options = { executionProviders: ["wasm"], logSeverityLevel: 3 };
  session = await InferenceSession.create(new Uint8Array(graph), options);
  return { threads: env.wasm.numThreads };
}

/** Browsers translate WebAssembly to slow code first, and to fast code while it runs. */
async function warm() {
  const channels = model.channels;
  await compute({ width: 8, height: 8, channels, samples: new Uint8Array(64 * channels) });
}

/** What the page shows of a file, for a mask that is computed elsewhere. */
async function decode({ file, maxPixels }) {
  const picture = await readPicture(new Uint8Array(await file.arrayBuffer()), maxPixels);
  return { width: picture.width, height: picture.height, pixels: toRgba(picture) };
}

async function predict({ id, file, maxPixels, threshold }) {
  const picture = await readPicture(new Uint8Array(await file.arrayBuffer()), maxPixels);
  const { width, height } = picture;
  const began = performance.now();
  const entry = { width, height, ...(await compute(picture)) };
  const classes = maskAt(entry, threshold);
  const milliseconds = performance.now() - began;
  kept.delete(id);
  kept.set(id, entry);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return { width, height, pixels: toRgba(picture), classes, milliseconds };
}

async function compute(picture) {
  const { Tensor } = onnxruntime();
  const samples = toChannels(picture, model.channels);
  const image = new Tensor("uint8", samples, [1, picture.height, picture.width, model.channels]);
  const wanted = model.threshold === null ? ["mask"] : ["mask", "probabilities"];
  const found = await session.run({ image }, wanted);
  return { decided: found.mask.data, probabilities: found.probabilities?.data };
}

/** Class indices at a threshold; null stands for the model's own, at which the graph decided. */
function maskAt({ width, height, decided, probabilities }, threshold) {
  const classes = Uint8Array.from(decided);
  if (threshold !== null) {
    const limit = Math.fround(threshold);
    for (let i = 0; i < classes.length; i += 1) classes[i] = probabilities[i] >= limit ? 1 : 0;
  }
  return cleanComponents(classes, width, height, model.components);
}

/** The mask of an image at another threshold; null where it is no longer kept. */
function decide({ id, threshold }) {
  const entry = kept.get(id);
  return entry ? maskAt(entry, threshold) : null;
}

function explain(error) {
  if (error instanceof Unreadable) return error.message;
  const reason = String(error?.message ?? error).split("\n")[0];
  if (error instanceof RangeError || /alloc|memory/i.test(reason)) {
    return "is too large for the memory of this browser. Downscale or tile it, or use `medseg predict`";
  }
  return `could not be computed (${reason}). Load the page again, or use \`medseg predict\``;
}

// ONNX Runtime starts this file again for each of its threads, under another name.
if (!self.name.startsWith("em-pthread")) {
  const calls = { start, warm, decode, predict, decide };
  self.onmessage = async ({ data }) => {
    try {
      const result = await calls[data.call](data);
      const moved = [result?.pixels?.buffer].filter(Boolean);
      self.postMessage({ number: data.number, result }, moved);
    } catch (error) {
      self.postMessage({ number: data.number, error: explain(error) });
    }
  };
}
