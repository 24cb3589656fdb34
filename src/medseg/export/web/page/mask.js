// From class indices to what is shown, counted and written (medseg/inference/components.py,
// medseg/data/labels.py, medseg/report/overlay.py).

/**
 * Drop small or secondary components of each foreground class; in place.
 *
 * @param {Uint8Array} classes class indices, row by row
 * @param {{keepLargest: boolean, minPixels: number}} rules of the model
 */
function cleanComponents(classes, width, height, { keepLargest, minPixels }) {
  if (!keepLargest && minPixels <= 1) return classes;
  const { numbers, sizes, classOf } = components(classes, width, height);
  const largest = new Map();
  sizes.forEach((size, number) => {
    const best = largest.get(classOf[number]);
    if (best === undefined || size > sizes[best]) largest.set(classOf[number], number);
  });
  const dropped = sizes.map(
    (size, number) => size < minPixels || (keepLargest && largest.get(classOf[number]) !== number),
  );
  for (let i = 0; i < classes.length; i += 1) if (classes[i] && dropped[numbers[i]]) classes[i] = 0;
  return classes;
}

/** Number the components of all foreground classes, in the order in which rows from the top meet
 * them; pixels that touch at a corner belong together. */
function components(classes, width, height) {
  const numbers = new Int32Array(classes.length).fill(-1);
  const stack = new Int32Array(classes.length);
  const sizes = [];
  const classOf = [];
  for (let seed = 0; seed < classes.length; seed += 1) {
    if (!classes[seed] || numbers[seed] >= 0) continue;
    const number = sizes.length;
    const index = classes[seed];
    let size = 0;
    let depth = 1;
    stack[0] = seed;
    numbers[seed] = number;
    while (depth) {
      const at = stack[(depth -= 1)];
      const x = at % width;
      const y = (at - x) / width;
      size += 1;
      for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row += 1) {
        for (let column = Math.max(0, x - 1); column <= Math.min(width - 1, x + 1); column += 1) {
          const next = row * width + column;
          if (classes[next] === index && numbers[next] < 0) {
            numbers[next] = number;
            stack[depth] = next;
            depth += 1;
          }
        }
      }
    }
    sizes.push(size);
    classOf.push(index);
  }
  return { numbers, sizes, classOf };
}

/** Pixels of each class. */
function countClasses(classes, labels) {
  const counts = new Array(labels.length).fill(0);
  for (let i = 0; i < classes.length; i += 1) counts[classes[i]] += 1;
  return counts;
}

/** The mask as `medseg predict` writes it: label values, or colours where training masks had them. */
function encodeMask(classes, width, height, { labels, rgb }) {
  const values = labels.map((label) => label.value);
  if (!rgb) {
    const Samples = Math.max(...values) > 255 ? Uint16Array : Uint8Array;
    const samples = new Samples(classes.length);
    // A mask without its large classes fits 8 bits, and is written so.
    let largest = 0;
    for (let i = 0; i < classes.length; i += 1) {
      samples[i] = values[classes[i]];
      if (samples[i] > largest) largest = samples[i];
    }
    return writePng(width, height, 1, largest > 255 ? samples : Uint8Array.from(samples));
  }
  const samples = new Uint8Array(3 * classes.length);
  for (let i = 0; i < classes.length; i += 1) {
    const value = values[classes[i]];
    samples[3 * i] = value >> 16;
    samples[3 * i + 1] = (value >> 8) & 255;
    samples[3 * i + 2] = value & 255;
  }
  return writePng(width, height, 3, samples);
}

/**
 * Draw the shown classes, as areas and as the lines along their inner borders.
 *
 * @param {boolean[]} shown for each class
 * @param {number[][]} colours [red, green, blue] of each class
 * @returns {{areas: ImageData, lines: ImageData}}
 */
function drawMask(classes, width, height, shown, colours) {
  const areas = new ImageData(width, height);
  const lines = new ImageData(width, height);
  const reach = Math.max(1, Math.round(Math.max(width, height) / 200));
  const inside = new Uint8Array(classes.length);
  // How many steps each pixel is from another class or the frame, counted up to `reach`: a border
  // pixel is 1, and what exceeds `reach` is inside.
  for (let i = 0; i < classes.length; i += 1) inside[i] = shown[classes[i]] && classes[i] ? 255 : 0;
  for (let pass = 1; pass <= reach; pass += 1) {
    for (let y = 0, i = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1, i += 1) {
        if (inside[i] !== 255) continue;
        const near = (ok, next) => !ok || classes[next] !== classes[i] || inside[next] === pass - 1;
        if (
          near(x > 0, i - 1) || near(x < width - 1, i + 1) ||
          near(y > 0, i - width) || near(y < height - 1, i + width)
        ) {
          inside[i] = pass;
        }
      }
    }
  }
  for (let i = 0; i < classes.length; i += 1) {
    if (!inside[i]) continue;
    const colour = colours[classes[i]];
    for (const [image, wanted] of [[areas, true], [lines, inside[i] <= reach]]) {
      if (wanted) {
        image.data.set(colour, 4 * i);
        image.data[4 * i + 3] = 255;
      }
    }
  }
  return { areas, lines };
}

/** A ZIP archive, nothing in it compressed. */
async function writeZip(files) {
  const parts = [];
  const directory = [];
  let at = 0;
  for (const { name, blob } of files) {
    const data = new Uint8Array(await blob.arrayBuffer());
    const encoded = new TextEncoder().encode(name);
    const crc = crc32(data);
    const fields = (view, from) => {
      view.setUint16(from, 20, true);
      view.setUint16(from + 2, 0x0800, true); // the name is UTF-8
      view.setUint32(from + 6, 0x00210000, true); // 1 January 1980
      view.setUint32(from + 10, crc, true);
      view.setUint32(from + 14, data.length, true);
      view.setUint32(from + 18, data.length, true);
      view.setUint16(from + 22, encoded.length, true);
    };
    const local = new Uint8Array(30 + encoded.length);
    viewOf(local).setUint32(0, 0x04034b50, true);
    fields(viewOf(local), 4);
    local.set(encoded, 30);
    const central = new Uint8Array(46 + encoded.length);
    viewOf(central).setUint32(0, 0x02014b50, true);
    viewOf(central).setUint16(4, 20, true);
    fields(viewOf(central), 6);
    viewOf(central).setUint32(42, at, true);
    central.set(encoded, 46);
    parts.push(local, data);
    directory.push(central);
    at += local.length + data.length;
  }
  const size = directory.reduce((sum, entry) => sum + entry.length, 0);
  const end = new Uint8Array(22);
  viewOf(end).setUint32(0, 0x06054b50, true);
  viewOf(end).setUint16(8, files.length, true);
  viewOf(end).setUint16(10, files.length, true);
  viewOf(end).setUint32(12, size, true);
  viewOf(end).setUint32(16, at, true);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
