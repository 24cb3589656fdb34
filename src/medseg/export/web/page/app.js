// The page: a list of images, of which one is shown with its mask.

const about = JSON.parse(document.getElementById("about-data").textContent);
const $ = (id) => document.getElementById(id);
const MAX_SHOWN = 4096; // pixels along a side that are drawn; larger images are drawn reduced
const MANY = 8;
const IMAGE_NAME = /\.(png|jpe?g|bmp|gif|webp|tiff?|dcm|nii|nii\.gz|nrrd|mha)$/i;

let engine = null;
let model = null;
let items = [];
let current = null; // the item that is shown or about to be
let shown = null; // { item, width, height, pixels, classes }
let visible = []; // of each class
let threshold = null; // null: the model's own
let numbered = 0;
let ready = false;
let starts = 0; // of models
let running = 0; // images that are being computed

const isImageName = (name) => IMAGE_NAME.test(name) && !name.startsWith(".");
const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
const say = (text) => { $("live").textContent = text; };

// Start

async function begin() {
  for (const name of ["DecompressionStream", "OffscreenCanvas", "WebAssembly"]) {
    if (!(name in globalThis)) throw new Error(`This browser is too old (it has no ${name}): update it`);
  }
  const parts = await collectParts();
  engine = about.remote ? new RemoteEngine(parts, askForToken) : new LocalEngine(parts);
  chooseModel(about.models[0]);
  await start();
}

/** Start the chosen model; if another is chosen meanwhile, that one's start counts. */
async function start() {
  starts += 1;
  const mine = starts;
  ready = false;
  try {
    await engine.start(model);
  } catch (error) {
    if (mine !== starts) return;
    throw error;
  }
  if (mine !== starts) return;
  ready = true;
  if (!items.length) {
    $("hint").textContent = "The mask of an image is shown here.";
    engine.warm();
  }
  work();
}

function failed(error) {
  $("hint").textContent = "The model could not be loaded.";
  trouble(`${error.message}.`);
}

/** What the page brings: the worker's text, ONNX Runtime and the graph, packed. */
async function collectParts() {
  const parts = { ...globalThis.medsegParts };
  for (const element of document.querySelectorAll("script[data-part]")) {
    parts[element.dataset.part] = element.textContent;
    element.remove();
  }
  delete globalThis.medsegParts;
  for (const name of about.parts) {
    if (!parts[name]) throw new Error(`This page is incomplete: copy all its files, also ${about.files[name]}`);
  }
  // From here on the page asks for nothing, not even for its own files.
  const lock = document.createElement("meta");
  lock.httpEquiv = "Content-Security-Policy";
  lock.content = about.lock;
  document.head.append(lock);
  const packed = new Blob([fromBase64(parts.worker)]).stream();
  const stream = packed.pipeThrough(new DecompressionStream("gzip"));
  return { ...parts, worker: await new Response(stream).text() };
}

function chooseModel(chosen) {
  model = chosen;
  threshold = null;
  visible = model.labels.map(() => true);
  shown = null; // its classes are another model's
  for (const item of items) reset(item);
  $("title").textContent = model.title;
  document.title = `${model.title} · medseg`;
  $("subtitle").textContent = `Finds ${model.labels.slice(1).map((label) => label.name).join(", ")}`;
  $("threshold-box").hidden = model.threshold === null;
  $("reset").hidden = true;
  if (model.threshold !== null) {
    $("threshold").value = model.threshold;
    showThreshold();
  }
  $("example").hidden = !model.example;
  fillFacts();
  fillClasses();
}

function fillFacts() {
  const list = $("facts");
  list.replaceChildren();
  for (const [name, value] of model.facts) {
    const term = document.createElement("dt");
    const text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    list.append(term, text);
  }
  $("card").innerHTML = model.card; // made by medseg.export.web, which escapes it
}

// Files

function add(files) {
  const taken = new Set(items.map((item) => item.mask));
  for (const { file, path } of files) {
    numbered += 1;
    const base = path.replace(/(\.nii\.gz|\.[^./]*)$/i, "") || path;
    let mask = `${base}.png`;
    for (let copy = 2; taken.has(mask); copy += 1) mask = `${base} (${copy}).png`;
    taken.add(mask);
    const item = { id: numbered, file, path, mask, state: "waiting", result: null, error: "" };
    item.row = rowOf(item);
    items.push(item);
    $("list").append(item.row);
  }
  if (files.length) {
    $("batch").hidden = false;
    if (!current) select(items[items.length - files.length]);
    else work();
  }
  updateCount();
}

async function droppedFiles(transfer) {
  const dropped = [...transfer.items]
    .filter((item) => item.kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = [];
  for (const { entry, file } of dropped) {
    if (entry?.isDirectory) await collect(entry, found, "");
    else if (file) found.push({ file, path: file.name });
  }
  return found;
}

/** The images in a folder; its other files are passed over. */
async function collect(entry, found, inside) {
  if (entry.isFile) {
    if (!isImageName(entry.name)) return;
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, path: inside + entry.name });
    return;
  }
  const reader = entry.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((one, other) => (one.name < other.name ? -1 : 1));
  for (const child of entries) await collect(child, found, `${inside}${entry.name}/`);
}

function chosenFiles(input) {
  const files = [...input.files]
    .map((file) => ({ file, path: file.webkitRelativePath || file.name }))
    .filter(({ file }) => input.id !== "folder" || isImageName(file.name));
  const none = input.files.length > 0 && files.length === 0;
  input.value = "";
  trouble(none ? "This folder holds no images." : "");
  return files;
}

function exampleFile() {
  return new File([fromBase64(model.example.image)], "example.png", { type: "image/png" });
}

// Computing: the shown image first

function reset(item) {
  if (item.state !== "working") item.state = "waiting";
  item.result = null;
  updateRow(item);
}

function work() {
  if (!ready) return;
  // A second worker takes as long to start as some images do to be computed.
  while (running < (items.length < MANY ? 1 : engine.width)) {
    const next = nextItem();
    if (!next) break;
    running += 1;
    compute(next).finally(() => {
      running -= 1;
      updateCount();
      work();
    });
  }
  const busy = running > 0 || deciding;
  $("list").setAttribute("aria-busy", String(busy));
  if (!busy && items.length > 20) say($("count").textContent);
}

function nextItem() {
  const isOpen = current && current !== shown?.item && ["waiting", "done"].includes(current.state);
  return isOpen ? current : items.find((item) => item.state === "waiting");
}

async function compute(item) {
  item.state = "working";
  updateRow(item);
  const asked = { model, threshold };
  let found = null;
  let result = null;
  let failure = "";
  try {
    found = await engine.predict(item.id, item.file, asked.model, asked.threshold);
    result = await resultOf(found, asked);
  } catch (error) {
    failure = error.message;
  }
  if (!items.includes(item)) return;
  if (asked.model !== model || asked.threshold !== threshold) {
    item.state = "waiting"; // for what has been chosen meanwhile
  } else if (failure) {
    Object.assign(item, { state: "failed", error: failure, result: null });
    if (item === current) showNothing(`${item.path} ${failure}.`);
    say(`${item.path} ${failure}`);
  } else {
    Object.assign(item, { state: "done", result });
    if (item === current) show(item, found);
    else if (items.length <= 20) say(`${item.path}: ${summary(item)}`);
  }
  updateRow(item);
}

async function resultOf({ width, height, classes, milliseconds }, asked) {
  return {
    width, height, milliseconds, threshold: asked.threshold ?? asked.model.threshold,
    counts: countClasses(classes, asked.model.labels),
    png: await encodeMask(classes, width, height, asked.model),
  };
}

let deciding = false;

/** While the threshold is moved, the shown mask follows; the others when it is let go. */
async function moveThreshold(value) {
  threshold = value;
  showThreshold();
  if (deciding) return;
  deciding = true;
  $("list").setAttribute("aria-busy", "true");
  let asked;
  do asked = threshold;
  while (shown && (await redecide(shown, asked)) && asked !== threshold);
  deciding = false;
  work();
}

/** Whether the mask shown is now that of `asked`. */
async function redecide({ item, ...picture }, asked) {
  const by = { model, threshold: asked };
  item.state = "working";
  updateRow(item);
  updateCount();
  const classes = await engine.decide(item.id, item.file, model, asked).catch(() => null);
  const result = classes && (await resultOf({ ...item.result, ...picture, classes }, by));
  const valid = result && shown?.item === item && by.model === model;
  item.state = valid ? "done" : "waiting"; // then it is computed again
  if (valid) {
    item.result = result;
    show(item, { ...picture, classes });
  } else if (shown?.item === item) {
    shown = null;
  }
  updateRow(item);
  updateCount();
  return valid;
}

function settleThreshold() {
  for (const item of items) {
    if (item !== shown?.item && item.state !== "failed") reset(item);
  }
  updateCount();
  work();
}

// Showing

function select(item) {
  current = item;
  for (const each of items) each.row.firstChild.setAttribute("aria-current", String(each === item));
  item.row.scrollIntoView({ block: "nearest" });
  if (item.state === "failed") showNothing(`${item.path} ${item.error}.`);
  else if (shown?.item !== item) showNothing("Computing …"); // never a picture under another's name
  work();
}

function step(by) {
  if (!items.length) return;
  const at = items.indexOf(current);
  select(items[Math.min(items.length - 1, Math.max(0, at + by))]);
  current.row.firstChild.focus();
}

function show(item, { width, height, pixels, classes }) {
  shown = { item, width, height, pixels, classes };
  $("layers").hidden = false;
  $("stage").classList.remove("empty");
  $("layers").classList.toggle("small", Math.max(width, height) < 512);
  $("hint").hidden = true;
  $("viewer-title").textContent = item.path;
  $("save-mask").disabled = false;
  const stride = Math.ceil(Math.max(width, height) / MAX_SHOWN);
  const size = { width: Math.ceil(width / stride), height: Math.ceil(height / stride) };
  for (const id of ["image", "areas", "lines"]) Object.assign($(id), size);
  const scale = width < 480 && height < 480 ? Math.max(1, Math.floor(640 / Math.max(width, height))) : 1;
  $("image").style.width = scale > 1 ? `${scale * width}px` : "";
  $("image").style.aspectRatio = `${width} / ${height}`;
  const grey = () => new Uint8ClampedArray(4 * size.width * size.height).fill(128);
  const drawn = pixels ? reduce(new Uint32Array(pixels.buffer), width, height, stride) : null;
  const data = drawn ? new Uint8ClampedArray(drawn.buffer) : grey();
  $("image").getContext("2d").putImageData(new ImageData(data, size.width, size.height), 0, 0);
  drawLayers();
  fillClasses();
  const own = item.exampleOf === model && threshold === null;
  const same = own ? ` ${sameAsExample(classes)}` : "";
  const blind = pixels ? "" : " This browser cannot show the file, so the mask lies on grey.";
  $("timing").textContent = `${number(width)} × ${number(height)} pixels, computed in ${number(item.result.milliseconds)} ms.${blind}${same}`;
  $("layers").setAttribute("aria-label", `${item.path} with its mask. ${summary(item)}`);
  say(`${item.path}: ${summary(item)}`);
}

function sameAsExample(classes) {
  const wanted = fromBase64(model.example.classes);
  let differing = 0;
  for (let i = 0; i < classes.length; i += 1) differing += classes[i] !== wanted[i];
  return differing
    ? `${number(differing)} pixels differ from the mask that the model was shipped with.`
    : "Every pixel is as in the mask that the model was shipped with.";
}

function showNothing(text) {
  shown = null;
  $("layers").hidden = true;
  $("stage").classList.add("empty");
  $("hint").hidden = false;
  $("hint").textContent = text;
  $("save-mask").disabled = true;
  $("timing").textContent = "";
  if (current) $("viewer-title").textContent = current.path;
  fillClasses();
}

/** Every `stride`-th pixel of every `stride`-th row. */
function reduce(values, width, height, stride) {
  if (stride === 1) return values.slice();
  const columns = Math.ceil(width / stride);
  const rows = Math.ceil(height / stride);
  const out = new values.constructor(columns * rows);
  for (let y = 0, to = 0; y < rows; y += 1) {
    for (let x = 0; x < columns; x += 1, to += 1) out[to] = values[y * stride * width + x * stride];
  }
  return out;
}

function drawLayers() {
  if (!shown) return;
  const stride = Math.ceil(Math.max(shown.width, shown.height) / MAX_SHOWN);
  const classes = reduce(shown.classes, shown.width, shown.height, stride);
  const { width, height } = $("image");
  const colours = model.labels.map((label) => rgbOf(label.colour));
  const { areas, lines } = drawMask(classes, width, height, visible, colours);
  $("areas").getContext("2d").putImageData(areas, 0, 0);
  $("lines").getContext("2d").putImageData(lines, 0, 0);
  showLayers();
}

function showLayers() {
  $("areas").style.opacity = String($("opacity").value / 100);
  $("lines").style.visibility = $("contours").checked ? "visible" : "hidden";
  $("opacity-value").textContent = `${$("opacity").value} %`;
}

const rgbOf = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));

function showThreshold() {
  $("threshold-value").textContent = threshold === null ? `${model.threshold} (the model's)` : String(threshold);
  $("threshold").setAttribute("aria-valuetext", $("threshold-value").textContent);
  $("reset").hidden = threshold === null;
}

function fillClasses() {
  const body = $("classes");
  const focused = document.activeElement?.dataset?.class;
  body.replaceChildren();
  model.labels.slice(1).forEach((label, place) => {
    const index = place + 1;
    const row = body.insertRow();
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = visible[index];
    box.dataset.class = index;
    box.setAttribute("aria-label", `Show ${label.name}`);
    box.addEventListener("change", () => toggleClass(index));
    row.insertCell().append(box);
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = label.colour;
    row.insertCell().append(swatch, label.name);
    const { counts, width, height } = shown?.item.result ?? {};
    row.insertCell().textContent = counts ? number(counts[index]) : "–";
    row.insertCell().textContent = counts ? share(counts[index], width * height) : "–";
    const area = counts ? areaOf(counts[index]) : null;
    row.insertCell().textContent = area === null ? "–" : area;
  });
  if (focused) body.querySelector(`[data-class="${focused}"]`)?.focus();
}

function toggleClass(index) {
  if (index >= visible.length) return;
  visible[index] = !visible[index];
  fillClasses();
  drawLayers();
  say(`${model.labels[index].name} ${visible[index] ? "shown" : "hidden"}`);
}

const share = (pixels, all) => `${number((100 * pixels) / all, 2)} %`;

/** mm², or null where the size of a pixel is not known. */
function areaOf(pixels) {
  const size = pixelArea();
  return size === null ? null : String(Number((pixels * size).toPrecision(6)));
}

function pixelArea() {
  const width = Number($("spacing-x").value);
  const height = $("spacing-y").value === "" ? width : Number($("spacing-y").value);
  return width > 0 && height > 0 ? width * height : null;
}

function summary({ result }) {
  const { counts, width, height } = result;
  return model.labels.slice(1)
    .map((label, place) => `${label.name} ${share(counts[place + 1], width * height)}`)
    .join(", ");
}

function rowOf(item) {
  const row = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  for (const name of ["mark", "name", "what"]) {
    const span = document.createElement("span");
    span.className = name;
    button.append(span);
  }
  button.querySelector(".mark").setAttribute("aria-hidden", "true");
  button.querySelector(".name").textContent = item.path;
  button.title = item.path;
  button.addEventListener("click", () => select(item));
  row.append(button);
  item.row = row;
  updateRow(item);
  return row;
}

const MARKS = { waiting: "·", working: "…", done: "✓", failed: "!" };

function updateRow(item) {
  item.row.className = item.state;
  item.row.querySelector(".mark").textContent = MARKS[item.state];
  const { state, result, error } = item;
  const what = state === "failed" ? error : state === "done" && result ? briefly(result) : state;
  item.row.querySelector(".what").textContent = what;
}

function briefly({ counts, width, height }) {
  const foreground = counts.slice(1).reduce((sum, count) => sum + count, 0);
  return share(foreground, width * height);
}

function updateCount() {
  const failed = items.filter((item) => item.state === "failed").length;
  const done = items.filter((item) => item.state === "done").length;
  $("progress").max = Math.max(1, items.length);
  $("progress").value = done + failed;
  $("count").textContent = `${done} of ${items.length} done${failed ? `, ${failed} failed` : ""}`;
  $("save-all").disabled = $("save-table").disabled = done + failed < items.length || !items.length;
}

// Saving

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function saveMask() {
  if (shown?.item.result) save(shown.item.mask.split("/").pop(), shown.item.result.png);
}

async function saveAll() {
  const done = items.filter((item) => item.result);
  save("masks.zip", await writeZip([
    ...done.map((item) => ({ name: item.mask, blob: item.result.png })),
    { name: "areas.csv", blob: table() },
  ]));
}

function table() {
  const size = pixelArea();
  const head = ["file", "mask", "width", "height", "class", "value", "pixels", "percent", "area_mm2", "threshold", "model", "error"];
  const rows = items.flatMap((item) => {
    if (!item.result) return [[item.path, "", "", "", "", "", "", "", "", "", model.name, item.error]];
    const { counts, width, height } = item.result;
    return model.labels.slice(1).map((label, place) => {
      const pixels = counts[place + 1];
      return [
        item.path, item.mask, width, height, label.name, label.value, pixels,
        ((100 * pixels) / (width * height)).toFixed(4), size === null ? "" : areaOf(pixels),
        item.result.threshold ?? "", model.name, "",
      ];
    });
  });
  const text = [head, ...rows].map((row) => row.map(field).join(",")).join("\r\n");
  return new Blob(["\ufeff", text, "\r\n"], { type: "text/csv" });
}

/** A spreadsheet would compute what starts like a formula. */
function field(value) {
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Controls

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
}

function askForToken(wasWrong) {
  $("token-wrong").hidden = !wasWrong;
  $("token").value = "";
  $("token-dialog").showModal();
  return new Promise((resolve, reject) => {
    $("token-dialog").addEventListener("close", () => {
      const token = $("token").value;
      if (token) resolve(token);
      else reject(new Error("was not sent: the server needs a token"));
    }, { once: true });
  });
}

function wire() {
  $("pick").addEventListener("click", () => $("files").click());
  $("pick-folder").addEventListener("click", () => $("folder").click());
  for (const id of ["files", "folder"]) {
    $(id).addEventListener("change", (event) => add(chosenFiles(event.target)));
  }
  $("example").addEventListener("click", () => {
    add([{ file: exampleFile(), path: "example.png" }]);
    const item = items[items.length - 1];
    item.exampleOf = model;
    select(item);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    try {
      const files = await droppedFiles(event.dataTransfer);
      trouble(files.length ? "" : "There are no images in what was dropped.");
      add(files);
    } catch {
      trouble("The browser does not let this page read that folder. Use “Choose a folder”.");
    }
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    add(files.map((file) => ({ file, path: file.name || "pasted.png" })));
  });
  $("opacity").addEventListener("input", showLayers);
  $("contours").addEventListener("change", showLayers);
  $("threshold").addEventListener("input", (event) => moveThreshold(Number(event.target.value)));
  $("threshold").addEventListener("change", settleThreshold);
  $("reset").addEventListener("click", async () => {
    $("threshold").value = model.threshold;
    $("threshold").focus();
    await moveThreshold(null);
    settleThreshold();
  });
  for (const id of ["spacing-x", "spacing-y"]) $(id).addEventListener("input", fillClasses);
  $("save-mask").addEventListener("click", saveMask);
  $("save-all").addEventListener("click", saveAll);
  $("save-table").addEventListener("click", () => save("areas.csv", table()));
  $("clear").addEventListener("click", () => {
    items = [];
    current = null;
    $("list").replaceChildren();
    $("batch").hidden = true;
    $("viewer-title").textContent = "Mask";
    showNothing("The mask of an image is shown here.");
    $("pick").focus();
  });
  for (const each of about.models) $("model").append(new Option(each.title, each.name));
  $("models").hidden = about.models.length < 2;
  $("model").addEventListener("change", (event) => {
    chooseModel(about.models.find((each) => each.name === event.target.value));
    showNothing(items.length ? "Computing …" : "Loading the model …");
    updateCount();
    trouble("");
    start().catch(failed);
  });
  document.addEventListener("keydown", shortcut);
}

function shortcut(event) {
  const typing = event.target.closest("input[type=number], input[type=password], select, dialog");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const slide = (id, by) => {
    $(id).value = Number($(id).value) + by;
    $(id).dispatchEvent(new Event("input"));
    $(id).dispatchEvent(new Event("change"));
  };
  const sliding = event.target.type === "range";
  const actions = {
    o: () => $("pick").click(),
    j: () => step(1),
    k: () => step(-1),
    ArrowDown: sliding ? null : () => step(1),
    ArrowUp: sliding ? null : () => step(-1),
    "[": () => slide("opacity", -5),
    "]": () => slide("opacity", 5),
    ",": model.threshold === null ? null : () => slide("threshold", -0.01),
    ".": model.threshold === null ? null : () => slide("threshold", 0.01),
    c: () => $("contours").click(),
    d: saveMask,
  };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const action = /^[1-9]$/.test(key) ? () => toggleClass(Number(key)) : actions[key];
  if (!action || (key.startsWith("Arrow") && !items.length)) return;
  event.preventDefault();
  action();
}

wire();
showLayers();
begin().catch(failed);
