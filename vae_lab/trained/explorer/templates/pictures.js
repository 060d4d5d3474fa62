// Images on canvases in their own pixels, and pictures of any size made into images of the data's shape, by the
// rules and numbers of `own_pictures.py`, within 1/255 of what it makes of them. The data's look is measured there.

const DRAWN = 0.3; // by which a pixel differs from the ground where something is drawn
const FAINT = 0.02; // of a ground that is dark, or light, as it should be; of a colour that is grey
const GRAIN = 2; // median deviations of the ground that are ground, too: paper has a grain
const LOBES = 3; // of Lanczos' filter, to each side
const NEARLY = 1e-3; // so near a half a number is one: the digits beyond are not the same in Python

// Paints an image in [0, 1], of 1 or 3 channels, on a canvas that has its pixels.
function paint(canvas, image, [channels, height, width], at = [0, 0]) {
  const size = height * width;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < size; i++) {
    for (let channel = 0; channel < 3; channel++) {
      pixels.data[4 * i + channel] = Math.round(255 * image[i + (channels === 3 ? channel * size : 0)]);
    }
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, ...at);
}

// Gives a canvas its own pixels, and on the screen a whole number of the screen's pixels for each of them.
function fit(canvas, [width, height], room) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const ratio = window.devicePixelRatio || 1;
  const scale = Math.max(1, Math.floor((room * ratio) / width)) / ratio;
  canvas.style.width = `${width * scale}px`;
  canvas.style.height = `${height * scale}px`;
}

// Returns grey values in [0, 1] or three channels of a picture on a canvas, channel after channel.
function pixelsOf(canvas, channels) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const values = new Float32Array(channels * width * height);
  let coloured = false;
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    if (channels === 1) values[i] = greyOf(red, green, blue);
    else [red, green, blue].forEach((value, channel) => (values[channel * width * height + i] = value / 255));
    coloured ||= Math.max(red, green, blue) - Math.min(red, green, blue) > 255 * FAINT;
  }
  return { values, width, height, channels, coloured };
}

// Returns the grey of a colour, in 256 steps as Pillow has it.
function greyOf(red, green, blue) {
  return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16) / 255;
}

// Puts white below what is transparent, or black below a light picture; returns what was done.
function madeOpaque(canvas) {
  const context = canvas.getContext("2d");
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  let [light, mass, least] = [0, 0, 255];
  for (let i = 0; i < data.length; i += 4) {
    const alpha = data[i + 3];
    light += alpha * greyOf(data[i], data[i + 1], data[i + 2]);
    mass += alpha;
    least = Math.min(least, alpha);
  }
  if (least === 255) return [];
  const ground = light > 0.5 * mass ? "black" : "white";
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = ground;
  context.fillRect(0, 0, canvas.width, canvas.height);
  return [`what is transparent made ${ground}`];
}

// Returns an image of the data's shape and what was done to a picture for it; one that is not to be centred is
// shown as a whole.
function adapted(picture, [channels, height, width], look, centred) {
  const done = [...(picture.changes ?? [])];
  let source = picture;
  if (channels === 1 && picture.coloured) done.push("colour made grey");
  if (isOfTheOtherGround(picture, look)) {
    source = { ...picture, values: picture.values.map((value) => 1 - value) };
    done.push("inverted");
  }
  if (source.width === width && source.height === height) return { image: source.values.slice(), done };
  if (look.ground === null) return { image: scaledMiddle(source, [height, width], done), done };
  const values = source.values.map((value) => Math.abs(value - look.ground));
  const ink = levelled({ ...source, values }, done);
  const image = centred ? placed(ink, [height, width], look, done) : whole(ink, [height, width], done);
  return { image: image.map((value) => Math.abs(value - look.ground)), done };
}

// Returns what is drawn in the size and at the place that the data have it.
function placed(ink, [height, width], look, done) {
  const box = inkBox(ink);
  if (!box) {
    done.push("nothing is drawn on it");
    return scaledMiddle(ink, [height, width], done);
  }
  const factor = Math.min(look.extent / Math.max(box.high, box.wide), height / box.high, width / box.wide);
  const small = resized(cut(ink, box), ...scaledSides([box.high, box.wide], factor));
  const strongest = small.values.reduce((most, value) => Math.max(most, value), DRAWN);
  small.values.forEach((value, i) => (small.values[i] = value / strongest)); // thin strokes have become faint
  const [row, column] = centreOf(small);
  const below = Math.min(Math.max(rounded(look.centre[0] - row), 0), height - small.height);
  const beside = Math.min(Math.max(rounded(look.centre[1] - column), 0), width - small.width);
  done.push("centred", `scaled to ${width} × ${height}`);
  return padded(small, [below, beside], [height, width]);
}

// Returns all of a picture in the middle of an image.
function whole(ink, [height, width], done) {
  const factor = Math.min(height / ink.height, width / ink.width);
  const small = resized(ink, ...scaledSides([ink.height, ink.width], factor));
  done.push(`scaled to ${width} × ${height}`);
  return padded(small, [(height - small.height) >> 1, (width - small.width) >> 1], [height, width]);
}

// Returns the middle of a picture, of the wanted proportions, scaled.
function scaledMiddle(picture, [height, width], done) {
  const factor = Math.min(picture.height / height, picture.width / width);
  const [high, wide] = scaledSides([height, width], factor);
  const box = { left: (picture.width - wide) >> 1, top: (picture.height - high) >> 1, wide, high };
  if (high !== picture.height || wide !== picture.width) {
    done.push(`cropped to the middle ${wide} × ${high} pixels`);
  }
  done.push(`scaled to ${width} × ${height}`);
  const image = new Float32Array(picture.channels * height * width);
  for (let channel = 0; channel < picture.channels; channel++) {
    image.set(resized(cut(picture, box, channel), height, width).values, channel * height * width);
  }
  return image;
}

function scaledSides(sides, factor) {
  return sides.map((side) => Math.max(1, rounded(side * factor)));
}

// Rounds halves to even numbers, as Python does.
function rounded(value) {
  const near = Math.floor(value);
  if (Math.abs(value - near - 0.5) < NEARLY) return near + (near % 2 ? 1 : 0);
  return Math.round(value);
}

function cut({ values, width, height }, { left, top, wide, high }, channel = 0) {
  const part = new Float32Array(wide * high);
  for (let row = 0; row < high; row++) {
    const start = (channel * height + top + row) * width + left;
    part.set(values.subarray(start, start + wide), row * wide);
  }
  return { values: part, width: wide, height: high };
}

function padded({ values, width, height }, [below, beside], [rows, columns]) {
  const image = new Float32Array(rows * columns);
  for (let row = 0; row < height; row++) {
    image.set(values.subarray(row * width, (row + 1) * width), (below + row) * columns + beside);
  }
  return image;
}

// Returns one channel in another size, by Lanczos' filter, as Pillow resizes.
function resized(plane, height, width) {
  const { values } = turnedAndResized(turnedAndResized(plane, width), height);
  return { values: values.map((value) => Math.min(1, Math.max(0, value))), width, height };
}

// Returns a channel whose rows have become columns, of `count` pixels each.
function turnedAndResized({ values, width, height }, count) {
  const turned = new Float32Array(count * height);
  lanczos(width, count).forEach(({ first, weights }, i) => {
    for (let row = 0; row < height; row++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * values[row * width + first + k];
      turned[i * height + row] = sum;
    }
  });
  return { values: turned, width: height, height: count };
}

// Returns for each of `count` pixels the first of those of `size` that it is made of, and the weights of these.
function lanczos(size, count) {
  const step = size / count;
  const scale = Math.max(1, step);
  const sinc = (x) => (x ? Math.sin(Math.PI * x) / (Math.PI * x) : 1);
  return Array.from({ length: count }, (_, i) => {
    const centre = (i + 0.5) * step;
    const first = Math.max(0, Math.trunc(centre - LOBES * scale + 0.5));
    const last = Math.min(size, Math.trunc(centre + LOBES * scale + 0.5));
    const weights = Array.from({ length: last - first }, (_, k) => {
      const x = (first + k - centre + 0.5) / scale;
      return Math.abs(x) < LOBES ? sinc(x) * sinc(x / LOBES) : 0;
    });
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

// Returns the box around what is drawn; null where nothing is.
function inkBox({ values, width, height }) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (values[row * width + column] <= DRAWN) continue;
      [left, right] = [Math.min(left, column), Math.max(right, column)];
      [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
    }
  }
  return bottom < 0 ? null : { left, top, wide: right - left + 1, high: bottom - top + 1 };
}

// Returns the row and column of the centre of mass.
function centreOf({ values, width }) {
  let [mass, rows, columns] = [0, 0, 0];
  values.forEach((value, i) => {
    mass += value;
    rows += value * Math.floor(i / width);
    columns += value * (i % width);
  });
  return [rows / mass, columns / mass];
}

// Returns ink whose ground is 0 and whose strongest stroke is 1.
function levelled(picture, done) {
  const ink = picture.values;
  const border = borderOf(picture);
  const level = median(border);
  const darkest = level + GRAIN * median(border.map((value) => Math.abs(value - level)));
  const strongest = ink.reduce((most, value) => Math.max(most, value), 0);
  if (darkest < FAINT && strongest > 1 - 2 * FAINT) return picture;
  const isEmpty = strongest - darkest < DRAWN / 2; // a sheet, however grey
  if (!isEmpty) done.push(`contrast raised: ${darkest.toFixed(2)} to ${strongest.toFixed(2)} made 0 to 1`);
  const range = isEmpty ? 1 : strongest - darkest;
  return { ...picture, values: ink.map((value) => Math.min(1, Math.max(0, (value - darkest) / range))) };
}

function isOfTheOtherGround(picture, look) {
  return look.ground !== null && Math.abs(median(borderOf(picture)) - look.ground) > 0.5;
}

function borderOf({ values, width, height }) {
  const [first, last] = [values.subarray(0, width), values.subarray((height - 1) * width, height * width)];
  const sides = [];
  for (let row = 1; row < height - 1; row++) sides.push(values[row * width], values[(row + 1) * width - 1]);
  return [...first, ...last, ...sides];
}

function median(values) {
  const sorted = Float32Array.from(values).sort();
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}
