// PNG files, read as medseg reads them (medseg/data/io/raster.py) and written as it writes masks.

const PNG = [137, 80, 78, 71, 13, 10, 26, 10];

/** What a user can act on: what was found in a file, and what to do about it. */
class Unreadable extends Error {}

const damaged = (what) =>
  new Unreadable(`cannot be decoded (${what}). It is damaged or incomplete: copy or export it again`);

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit += 1) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = -1;
  for (let i = 0; i < bytes.length; i += 1) crc = CRC[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i += 1) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function checkSize(width, height, maxPixels) {
  if (!width || !height) throw new Unreadable(`its header says ${width} x ${height} pixels. Export it again`);
  if (width * height > maxPixels) {
    throw new Unreadable(
      `has ${width} x ${height} pixels, more than the ${maxPixels.toLocaleString("en")} allowed. ` +
        "Downscale or tile it",
    );
  }
}

/** The orientation (1..8) in a block of EXIF data; 1 where it is absent or damaged. */
function exifOrientation(data) {
  const text = (from, to) => String.fromCharCode(...data.subarray(from, to));
  const bytes = text(0, 6) === "Exif\0\0" ? data.subarray(6) : data;
  const order = String.fromCharCode(...bytes.subarray(0, 2));
  if (order !== "II" && order !== "MM") return 1;
  const little = order === "II";
  const view = viewOf(bytes);
  try {
    const start = view.getUint32(4, little);
    const entries = view.getUint16(start, little);
    for (let at = start + 2, end = at + 12 * entries; at < end; at += 12) {
      const value = view.getUint16(at + 8, little);
      if (view.getUint16(at, little) === 0x0112) return value >= 1 && value <= 8 ? value : 1;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

/**
 * Decode a PNG.
 *
 * 16-bit greys keep their values; 16-bit colours keep their upper 8 bits, alpha is dropped, 1-, 2-
 * and 4-bit greys are stretched to 0..255, palettes become colours.
 *
 * @param {Uint8Array} bytes of the file
 * @param {number} maxPixels more are refused before anything is inflated
 * @returns {{width, height, channels, samples, orientation}} samples: Uint8Array, or Uint16Array
 */
async function readPng(bytes, maxPixels) {
  const { header, palette, orientation, data } = pngChunks(bytes, maxPixels);
  const { width, height, depth, kind, interlaced } = header;
  const perPixel = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }[kind];
  const raw = await pngInflate(data, pngLength(header, perPixel));
  const stored = new Uint8Array(width * height * perPixel * (depth === 16 ? 2 : 1));
  let at = 0;
  for (const [x, y, dx, dy] of interlaced ? ADAM7 : [[0, 0, 1, 1]]) {
    const columns = Math.ceil((width - x) / dx);
    const rows = Math.ceil((height - y) / dy);
    if (columns <= 0 || rows <= 0) continue;
    at = pngPass(raw, at, stored, { x, y, dx, dy, columns, rows, width, depth, perPixel });
  }
  return { width, height, orientation, ...pngColours(stored, header, palette) };
}

const ADAM7 = [
  [0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2],
];

const DEPTHS = { 0: [1, 2, 4, 8, 16], 2: [8, 16], 3: [1, 2, 4, 8], 4: [8, 16], 6: [8, 16] };

function pngChunks(bytes, maxPixels) {
  const view = viewOf(bytes);
  const data = [];
  let header = null, palette = null, orientation = 1, frames = null, defaultImage = true, at = 8;
  for (;;) {
    if (at + 8 > bytes.length) {
      if (data.length) break;
      throw damaged("it ends before its pixels");
    }
    const length = view.getUint32(at);
    const name = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (name === "IDAT") {
      data.push(body);
    } else if (data.length) {
      break;
    } else {
      if (at + 12 + length > bytes.length) throw damaged("it ends before its pixels");
      if (crc32(bytes.subarray(at + 4, at + 8 + length)) !== view.getUint32(at + 8 + length)) {
        throw damaged(`bad checksum in ${name}`);
      }
      if (name === "IHDR") header = pngHeader(body, maxPixels);
      if (name === "PLTE") palette = body;
      if (name === "eXIf") orientation = exifOrientation(body);
      if (name === "fcTL") defaultImage = false;
      if (name === "acTL") frames = pngFrames(body);
    }
    at += 12 + length;
  }
  if (!header) throw damaged("it has no header");
  if (header.kind === 3 && !palette) throw damaged("it has no palette");
  if (frames !== null && frames + (defaultImage ? 1 : 0) > 1) {
    throw new Unreadable("holds several frames, so it is no still image. Save one image per file");
  }
  return { header, palette, orientation, data };
}

/** Of an animation; null where it is none. */
function pngFrames(body) {
  if (body.length < 8) throw damaged("truncated acTL");
  return viewOf(body).getUint32(0) || null;
}

function pngHeader(body, maxPixels) {
  if (body.length < 13) throw damaged("its header is too short");
  const view = viewOf(body);
  const header = {
    width: view.getUint32(0), height: view.getUint32(4), depth: body[8], kind: body[9],
    interlaced: body[12] !== 0,
  };
  if (!DEPTHS[header.kind]?.includes(header.depth) || body[11] !== 0) {
    throw damaged(`colour type ${header.kind} of ${header.depth} bits`);
  }
  checkSize(header.width, header.height, maxPixels);
  return header;
}

function pngLength({ width, height, depth, interlaced }, perPixel) {
  let length = 0;
  for (const [x, y, dx, dy] of interlaced ? ADAM7 : [[0, 0, 1, 1]]) {
    const columns = Math.ceil((width - x) / dx);
    const rows = Math.ceil((height - y) / dy);
    if (columns > 0 && rows > 0) length += rows * (1 + Math.ceil((columns * perPixel * depth) / 8));
  }
  return length;
}

/** The first `length` bytes that the stream holds; whatever follows them does not matter. */
async function pngInflate(parts, length) {
  const out = new Uint8Array(length);
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  let filled = 0;
  try {
    while (filled < length) {
      const { done, value } = await reader.read();
      if (done) break;
      out.set(value.subarray(0, length - filled), filled);
      filled = Math.min(length, filled + value.length);
    }
  } catch {
    // Too few bytes are told below.
  }
  reader.cancel().catch(() => {});
  if (filled < length) throw damaged("image file is truncated");
  return out;
}

/** Undo the filters of one pass and put its pixels at their places; returns where the next starts. */
function pngPass(raw, start, stored, pass) {
  const { x, y, dx, dy, columns, rows, width, depth, perPixel } = pass;
  const line = Math.ceil((columns * perPixel * depth) / 8);
  const step = Math.max(1, (perPixel * depth) / 8);
  const size = depth === 16 ? 2 * perPixel : perPixel;
  let above = new Uint8Array(line);
  let at = start;
  for (let row = 0; row < rows; row += 1) {
    const filter = raw[at];
    const now = raw.subarray(at + 1, at + 1 + line);
    unfilter(filter, now, above, step);
    let to = ((y + row * dy) * width + x) * size;
    if (depth >= 8) {
      if (dx === 1) {
        stored.set(now, to);
      } else {
        for (let from = 0; from < line; from += size, to += dx * size) {
          for (let k = 0; k < size; k += 1) stored[to + k] = now[from + k];
        }
      }
    } else {
      const mask = (1 << depth) - 1;
      for (let column = 0; column < columns; column += 1, to += dx) {
        const bit = column * depth;
        stored[to] = (now[bit >> 3] >> (8 - depth - (bit & 7))) & mask;
      }
    }
    above = now;
    at += 1 + line;
  }
  return at;
}

function unfilter(filter, now, above, step) {
  const length = now.length;
  if (filter === 1) {
    for (let i = step; i < length; i += 1) now[i] += now[i - step];
  } else if (filter === 2) {
    for (let i = 0; i < length; i += 1) now[i] += above[i];
  } else if (filter === 3) {
    for (let i = 0; i < length; i += 1) now[i] += ((i < step ? 0 : now[i - step]) + above[i]) >> 1;
  } else if (filter === 4) {
    for (let i = 0; i < length; i += 1) {
      const left = i < step ? 0 : now[i - step];
      const corner = i < step ? 0 : above[i - step];
      const guess = left + above[i] - corner;
      const toLeft = Math.abs(guess - left);
      const toAbove = Math.abs(guess - above[i]);
      const toCorner = Math.abs(guess - corner);
      now[i] += toLeft <= toAbove && toLeft <= toCorner ? left : toAbove <= toCorner ? above[i] : corner;
    }
  } else if (filter !== 0) {
    throw damaged(`unknown filter ${filter}`);
  }
}

function pngColours(stored, { width, height, depth, kind }, palette) {
  const count = width * height;
  if (kind === 0) {
    if (depth === 16) {
      const samples = new Uint16Array(count);
      for (let i = 0; i < count; i += 1) samples[i] = (stored[2 * i] << 8) | stored[2 * i + 1];
      return { channels: 1, samples };
    }
    const step = 255 / ((1 << depth) - 1);
    if (step > 1) for (let i = 0; i < count; i += 1) stored[i] *= step;
    return { channels: 1, samples: stored };
  }
  if (kind === 3) {
    const last = Math.floor(palette.length / 3) - 1;
    const samples = new Uint8Array(3 * count);
    for (let i = 0; i < count; i += 1) {
      const entry = 3 * Math.min(stored[i], last);
      samples[3 * i] = palette[entry];
      samples[3 * i + 1] = palette[entry + 1];
      samples[3 * i + 2] = palette[entry + 2];
    }
    return { channels: 3, samples };
  }
  if (kind === 2 && depth === 8) return { channels: 3, samples: stored };
  const wide = depth === 16 ? 2 : 1;
  // Pillow has no grey with alpha of 16 bits: it reads those as colours.
  const channels = kind === 4 && depth === 8 ? 1 : 3;
  const stride = { 2: 3, 4: 2, 6: 4 }[kind] * wide;
  const samples = new Uint8Array(channels * count);
  for (let i = 0, to = 0; i < count; i += 1) {
    for (let k = 0; k < channels; k += 1, to += 1) {
      samples[to] = stored[i * stride + (kind === 4 ? 0 : k * wide)];
    }
  }
  return { channels, samples };
}

/**
 * Encode a PNG.
 *
 * @param {Uint8Array|Uint16Array} samples grey, or Uint8Array of 3 channels
 * @returns {Promise<Blob>}
 */
async function writePng(width, height, channels, samples) {
  const wide = samples instanceof Uint16Array;
  const line = width * channels * (wide ? 2 : 1);
  const raw = new Uint8Array(height * (line + 1));
  for (let row = 0; row < height; row += 1) {
    const at = row * (line + 1) + 1;
    if (!wide) {
      raw.set(samples.subarray(row * line, (row + 1) * line), at);
    } else {
      for (let column = 0; column < width; column += 1) {
        raw[at + 2 * column] = samples[row * width + column] >> 8;
        raw[at + 2 * column + 1] = samples[row * width + column] & 255;
      }
    }
  }
  const header = new Uint8Array(13);
  const view = viewOf(header);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header[8] = wide ? 16 : 8;
  header[9] = channels === 3 ? 2 : 0;
  const packed = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(packed).arrayBuffer());
  const parts = [pngChunk("IHDR", header), pngChunk("IDAT", data), pngChunk("IEND", new Uint8Array())];
  return new Blob([Uint8Array.from(PNG), ...parts], { type: "image/png" });
}

function pngChunk(name, body) {
  const chunk = new Uint8Array(12 + body.length);
  const view = viewOf(chunk);
  view.setUint32(0, body.length);
  for (let i = 0; i < 4; i += 1) chunk[4 + i] = name.charCodeAt(i);
  chunk.set(body, 8);
  view.setUint32(8 + body.length, crc32(chunk.subarray(4, 8 + body.length)));
  return chunk;
}
