// What computes masks: workers in this page, or the server it came from. Both have
// - `start(model)`, also for another model, and `warm()`, which makes the first image quicker;
// - `width`, the images that they are best given at a time where there are many;
// - `predict(id, file, model, threshold)`;
// - `decide(id, file, model, threshold)`, the mask of an image once more at another threshold, or
//   null where that must be predicted again.
// A threshold of null is the model's own. They fail with messages for people.

/** Calls to a worker, which is made of the page's own text, so that nothing is requested. */
class Calls {
  constructor(source) {
    const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    this.worker = new Worker(address);
    this.pending = new Map();
    this.number = 0;
    this.worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.pending.get(data.number);
      this.pending.delete(data.number);
      if (data.error === undefined) resolve(data.result);
      else reject(new Error(data.error));
    };
    this.worker.onerror = (event) => {
      const reason = event.message || "the browser does not run it";
      for (const { reject } of this.pending.values()) reject(new Error(`The worker stopped (${reason})`));
      this.pending.clear();
    };
  }

  /** Ends the worker; what it was asked for fails. */
  stop() {
    this.worker.terminate();
    for (const { reject } of this.pending.values()) reject(new Error("was not computed: another model was chosen"));
    this.pending.clear();
  }

  call(name, message) {
    this.number += 1;
    const number = this.number;
    return new Promise((resolve, reject) => {
      this.pending.set(number, { resolve, reject });
      this.worker.postMessage({ call: name, number, ...message });
    });
  }
}

/**
 * ONNX Runtime in workers. One worker can use several threads only where the page's server isolates
 * it; elsewhere a second worker computes the next image of a list meanwhile.
 */
class LocalEngine {
  constructor(parts) {
    this.parts = parts;
    this.width = self.crossOriginIsolated ? 1 : Math.min(2, navigator.hardwareConcurrency || 1);
    this.lanes = [];
    this.laneOf = new Map(); // of each image, where its probabilities are kept
  }

  /** From now on masks are of `model`, computed by new workers. */
  start(model) {
    for (const { calls } of this.lanes) calls.stop();
    this.lanes = [];
    this.laneOf.clear();
    this.model = model;
    return this.open().ready;
  }

  open() {
    const { worker, wasm, [this.model.graph]: graph } = this.parts;
    const calls = new Calls(worker);
    const lane = { calls, busy: 0, ready: calls.call("start", { wasm, graph, model: this.model }) };
    this.lanes.push(lane);
    return lane;
  }

  /** So that the first image need not wait; what fails here fails again there, and is told. */
  warm() {
    this.lanes[0].calls.call("warm", {}).catch(() => {});
  }

  async predict(id, file, model, threshold) {
    let lane = this.lanes.find((each) => each.busy === 0);
    if (!lane && this.lanes.length < this.width) lane = this.open();
    lane ??= this.lanes[0];
    lane.busy += 1;
    this.laneOf.set(id, lane);
    try {
      await lane.ready;
      return await lane.calls.call("predict", { id, file, maxPixels: model.maxPixels, threshold });
    } finally {
      lane.busy -= 1;
    }
  }

  async decide(id, file, model, threshold) {
    return this.laneOf.get(id)?.calls.call("decide", { id, threshold }) ?? null;
  }
}

class RemoteEngine {
  constructor(parts, askForToken) {
    this.calls = new Calls(parts.worker);
    this.askForToken = askForToken;
    this.width = 1;
    this.token = "";
  }

  async start() {}

  warm() {}

  async predict(id, file, model, threshold) {
    const shown = this.calls.call("decode", { file, maxPixels: model.maxPixels }).catch(() => null);
    const found = await this.request(file, model, threshold);
    const picture = await shown;
    const fits = picture && picture.width === found.width && picture.height === found.height;
    return { ...found, pixels: fits ? picture.pixels : null };
  }

  async decide(id, file, model, threshold) {
    return (await this.request(file, model, threshold)).classes;
  }

  async request(file, model, threshold) {
    const query = new URLSearchParams({ model: model.name });
    if (threshold !== null) query.set("threshold", threshold);
    const headers = { Accept: "application/json", "Content-Type": "application/octet-stream" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    let response;
    try {
      response = await fetch(`v1/predict?${query}`, { method: "POST", headers, body: file });
    } catch {
      throw new Error("could not be sent: the server does not answer. Check that it runs");
    }
    if (response.status === 401) {
      this.token = await this.askForToken(this.token !== "");
      return this.request(file, model, threshold);
    }
    if (response.status === 429) {
      const seconds = Number(response.headers.get("Retry-After")) || 1;
      await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
      return this.request(file, model, threshold);
    }
    const answer = await response.json().catch(() => ({}));
    if (!response.ok) {
      const reason = typeof answer.detail === "string" ? answer.detail : `status ${response.status}`;
      throw new Error(`was refused by the server: ${reason}`);
    }
    const { width, height, samples } = await readPng(fromBase64(answer.mask), Infinity);
    return { width, height, classes: samples, milliseconds: answer.milliseconds };
  }
}
