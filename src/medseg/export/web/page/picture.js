// From an image file to the pixels that medseg's own reader makes of it (medseg/data/io).

const startsWith = (bytes, start, at = 0) =>
  start.length + at <= bytes.length && start.every((value, i) => bytes[at + i] === value);
const ascii = (text) => Array.from(text, (letter) => letter.charCodeAt(0));

/**
 * Read an image file.
 *
 * @param {Uint8Array} bytes of the file; they decide how it is decoded, not its name
 * @param {number} maxPixels larger images are refused
 * @returns {Promise<{width, height, channels, samples: Uint8Array}>} 1 channel of a grey file and
 *     3 of a colour file, EXIF orientation applied
 */
async function readPicture(bytes, maxPixels) {
  if (!bytes.length) throw new Unreadable("is empty. Copy or export it again");
  const decode = decoderOf(bytes);
  const picture = await decode(bytes, maxPixels);
  if (picture.samples instanceof Uint16Array) picture.samples = scaleToBytes(picture.samples);
  return orient(picture);
}

function decoderOf(bytes) {
  if (startsWith(bytes, PNG)) return readPng;
  if (startsWith(bytes, [0xff, 0xd8, 0xff])) return readJpeg;
  if (startsWith(bytes, ascii("BM"))) return readBmp;
  if (startsWith(bytes, ascii("GIF8"))) return readGif;
  if (startsWith(bytes, ascii("RIFF")) && startsWith(bytes, ascii("WEBP"), 8)) return readWebp;
  const other = [
    ["TIFF", [73, 73, 42, 0], 0], ["TIFF", [77, 77, 0, 42], 0], ["TIFF", [73, 73, 43, 0], 0],
    ["TIFF", [77, 77, 0, 43], 0], ["DICOM", ascii("DICM"), 128], ["NIfTI", ascii("n+1\0"), 344],
    ["NIfTI", ascii("n+2\0"), 4], ["compressed (gzip, as .nii.gz)", [0x1f, 0x8b], 0],
    ["NRRD", ascii("NRRD"), 0], ["MetaImage", ascii("ObjectType"), 0],
  ].find(([, start, at]) => startsWith(bytes, start, at));
  throw new Unreadable(
    other
      ? `is a ${other[0]} file, which this page does not read. Use \`medseg predict\`, or save it as PNG`
      : "is not a PNG, JPEG, BMP, GIF or WebP image. Export it again from its source",
  );
}

/** The 0.1 to the 99.9 percentile of 16-bit values linearly to 0..255, the rest clipped. */
function scaleToBytes(samples) {
  const counts = new Uint32Array(65536);
  for (let i = 0; i < samples.length; i += 1) counts[samples[i]] += 1;
  let low = percentile(counts, samples.length, 0.1);
  let high = percentile(counts, samples.length, 99.9);
  if (high <= low) {
    low = counts.findIndex((count) => count > 0);
    high = counts.findLastIndex((count) => count > 0);
  }
  const scaled = new Uint8Array(samples.length);
  if (high <= low) return scaled;
  const table = new Uint8Array(65536);
  for (let value = 0; value < 65536; value += 1) {
    table[value] = Math.min(255, Math.max(0, roundHalfEven(((value - low) / (high - low)) * 255)));
  }
  for (let i = 0; i < samples.length; i += 1) scaled[i] = table[samples[i]];
  return scaled;
}

/** numpy's linear interpolation, in the same order of operations. */
function percentile(counts, total, percent) {
  const place = (total - 1) * (percent / 100);
  const rank = Math.floor(place);
  const share = place - rank;
  const below = valueOfRank(counts, rank);
  const above = valueOfRank(counts, Math.min(rank + 1, total - 1));
  const step = above - below;
  return share >= 0.5 ? above - step * (1 - share) : below + step * share;
}

function valueOfRank(counts, rank) {
  let passed = 0;
  for (let value = 0; ; value += 1) {
    passed += counts[value];
    if (passed > rank) return value;
  }
}

function roundHalfEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Apply an EXIF orientation (1..8). */
function orient({ width, height, channels, samples, orientation }) {
  if (orientation === 1) return { width, height, channels, samples };
  const turned = orientation >= 5;
  const mirrored = [2, 3, 6, 7].includes(orientation);
  const upended = [3, 4, 7, 8].includes(orientation);
  const [columns, rows] = turned ? [height, width] : [width, height];
  const out = new Uint8Array(samples.length);
  let to = 0;
  for (let y = 0; y < rows; y += 1) {
    for (let x = 0; x < columns; x += 1) {
      const column = mirrored ? columns - 1 - x : x;
      const row = upended ? rows - 1 - y : y;
      const from = (turned ? column * width + row : row * width + column) * channels;
      for (let k = 0; k < channels; k += 1, to += 1) out[to] = samples[from + k];
    }
  }
  return { width: columns, height: rows, channels, samples: out };
}

/** Grey is repeated, colour becomes luma (ITU-R 601, rounded). */
function toChannels({ channels, samples }, wanted) {
  if (channels === wanted) return samples;
  if (wanted === 3) {
    const out = new Uint8Array(samples.length * 3);
    for (let i = 0; i < samples.length; i += 1) out.fill(samples[i], 3 * i, 3 * i + 3);
    return out;
  }
  const out = new Uint8Array(samples.length / 3);
  for (let i = 0; i < out.length; i += 1) {
    const [red, green, blue] = [samples[3 * i], samples[3 * i + 1], samples[3 * i + 2]];
    out[i] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
  }
  return out;
}

/** For a canvas. */
function toRgba({ width, height, channels, samples }) {
  const out = new Uint8ClampedArray(4 * width * height);
  for (let i = 0; i < width * height; i += 1) {
    for (let k = 0; k < 3; k += 1) out[4 * i + k] = samples[channels === 3 ? 3 * i + k : i];
    out[4 * i + 3] = 255;
  }
  return out;
}

// The remaining formats are decoded by the browser, from a copy of the file without what could
// make it turn or recolour the pixels: EXIF and colour profiles, which medseg's reader applies by
// itself and ignores.

async function readJpeg(bytes, maxPixels) {
  const parts = [bytes.subarray(0, 2)];
  const view = viewOf(bytes);
  let orientation = null, components = 0, at = 2;
  for (;;) {
    while (bytes[at] === 0xff && bytes[at + 1] === 0xff) at += 1;
    if (at + 4 > bytes.length || bytes[at] !== 0xff) throw damaged("image file is truncated");
    const marker = bytes[at + 1];
    const end = at + 2 + view.getUint16(at + 2);
    const body = bytes.subarray(at + 4, end);
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) {
      if (body.length < 6) throw damaged("its header is too short");
      components = body[5];
      checkSize(viewOf(body).getUint16(3), viewOf(body).getUint16(1), maxPixels);
    }
    if (marker === 0xe1 && startsWith(body, ascii("Exif\0\0"))) orientation ??= exifOrientation(body);
    if (marker === 0xda) break;
    if (marker !== 0xe1 && marker !== 0xe2) parts.push(bytes.subarray(at, end));
    at = end;
  }
  const scans = bytes.subarray(at);
  if (!endsJpeg(scans)) throw damaged("image file is truncated");
  if (components !== 1 && components !== 3) {
    throw new Unreadable(
      `is a JPEG of ${components} colours (CMYK), which this page does not read. ` +
        "Use `medseg predict`, or save it as PNG",
    );
  }
  const picture = await decodeByBrowser(new Blob([...parts, scans], { type: "image/jpeg" }));
  return { ...picture, ...(components === 1 && firstChannel(picture)), orientation: orientation ?? 1 };
}

function endsJpeg(scans) {
  for (let at = scans.length - 2; at >= 0; at -= 1) {
    if (scans[at] === 0xff && scans[at + 1] === 0xd9) return true;
  }
  return false;
}

function firstChannel({ samples }) {
  return { channels: 1, samples: Uint8Array.from({ length: samples.length / 3 }, (_, i) => samples[3 * i]) };
}

async function readBmp(bytes, maxPixels) {
  if (bytes.length < 34) throw damaged("its header is too short");
  const view = viewOf(bytes);
  if (view.getUint32(14, true) >= 40) {
    checkSize(view.getInt32(18, true), Math.abs(view.getInt32(22, true)), maxPixels);
    if (view.getUint16(28, true) === 16 || view.getUint32(30, true) !== 0) {
      throw new Unreadable("is a BMP file of a rare kind. Use `medseg predict`, or save it as PNG");
    }
  }
  return { ...(await decodeByBrowser(new Blob([bytes], { type: "image/bmp" }))), orientation: 1 };
}

async function readGif(bytes, maxPixels) {
  if (bytes.length < 13) throw damaged("its header is too short");
  const view = viewOf(bytes);
  checkSize(view.getUint16(6, true), view.getUint16(8, true), maxPixels);
  if (gifFrames(bytes) > 1) {
    throw new Unreadable("holds several frames, so it is no still image. Save one image per file");
  }
  return { ...(await decodeByBrowser(new Blob([bytes], { type: "image/gif" }))), orientation: 1 };
}

function gifFrames(bytes) {
  const tableSize = (flags) => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  let frames = 0;
  let at = 13 + tableSize(bytes[10]);
  while (at < bytes.length && bytes[at] !== 0x3b) {
    if (bytes[at] === 0x21) {
      at += 2;
    } else if (bytes[at] === 0x2c) {
      frames += 1;
      at += 11 + tableSize(bytes[at + 9]);
    } else {
      throw damaged("unknown block");
    }
    while (bytes[at]) at += bytes[at] + 1;
    at += 1;
  }
  return frames;
}

async function readWebp(bytes, maxPixels) {
  const view = viewOf(bytes);
  let orientation = 1, pixels = null;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const name = String.fromCharCode(...bytes.subarray(at, at + 4));
    const length = view.getUint32(at + 4, true);
    const end = at + 8 + length + (length & 1);
    if (name === "ANIM") {
      throw new Unreadable("holds several frames, so it is no still image. Save one image per file");
    }
    if (name === "EXIF") orientation = exifOrientation(bytes.subarray(at + 8, at + 8 + length));
    if (name === "VP8 " || name === "VP8L") pixels ??= bytes.subarray(at, end);
    if (name === "ALPH") {
      throw new Unreadable("has transparency, which this page does not read in WebP. Save it as PNG");
    }
    at = end;
  }
  if (!pixels) throw damaged("it has no pixels");
  const head = new Uint8Array([...ascii("RIFF"), 0, 0, 0, 0, ...ascii("WEBP")]);
  viewOf(head).setUint32(4, pixels.length + 4, true);
  const picture = await decodeByBrowser(new Blob([head, pixels], { type: "image/webp" }));
  checkSize(picture.width, picture.height, maxPixels);
  return { ...picture, orientation };
}

async function decodeByBrowser(blob) {
  await checkCanvas();
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw damaged("the browser refuses it");
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const samples = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    if (data[from + 3] !== 255) {
      throw new Unreadable("has transparency, which this page reads in PNG files only. Save it as PNG");
    }
    samples[to] = data[from];
    samples[to + 1] = data[from + 1];
    samples[to + 2] = data[from + 2];
  }
  return { width, height, channels: 3, samples };
}

let canvasIsExact = null;

/** Some browsers add noise to pixels that a page reads back, so that it cannot be recognised. */
async function checkCanvas() {
  if (canvasIsExact === null) {
    const context = new OffscreenCanvas(32, 32).getContext("2d", { willReadFrequently: true });
    const image = context.createImageData(32, 32);
    for (let i = 0; i < image.data.length; i += 1) image.data[i] = i % 4 === 3 ? 255 : (i * 37) & 255;
    context.putImageData(image, 0, 0);
    const { data } = context.getImageData(0, 0, 32, 32);
    canvasIsExact = data.every((value, i) => value === image.data[i]);
  }
  if (!canvasIsExact) {
    throw new Unreadable(
      "cannot be read exactly: this browser changes pixels that a page reads, to protect your privacy. " +
        "Save it as PNG, which this page decodes by itself",
    );
  }
}
