// Images on canvases in their own pixels, and pictures of any size made into images of the data's shape, as
// `own_pictures.py` makes them, with the same numbers.

const DRAWN = 0.3; // by which a pixel differs from the ground where something is drawn
const FAINT = 0.02; // of a ground that is dark, or light, as it should be; of a colour that is grey
const GRAIN = 2; // median deviations of the ground that are ground, too: paper has a grain

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

function greyOf(red, green, blue) {
  return (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
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

// Returns the part of a picture in a window [left, top, width, height], which may reach beyond it, averaged to
// an image of the data's shape; beyond the picture lies `ground`.
function resampled(picture, [left, top, wide, high], [channels, height, width], ground) {
  const image = new Float32Array(channels * height * width);
  for (let channel = 0; channel < channels; channel++) {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const box = [left + (column * wide) / width, top + (row * high) / height];
        image[(channel * height + row) * width + column] = boxMean(
          picture, channel, box, [wide / width, high / height], ground,
        );
      }
    }
  }
  return image;
}

// The mean of a picture over a box, whose edges cut pixels in parts.
function boxMean(picture, channel, [x, y], [wide, high], ground) {
  let sum = 0;
  for (let row = Math.floor(y); row < y + high; row++) {
    const share = Math.min(row + 1, y + high) - Math.max(row, y);
    for (let column = Math.floor(x); column < x + wide; column++) {
      const inside = row >= 0 && row < picture.height && column >= 0 && column < picture.width;
      const at = (channel * picture.height + row) * picture.width + column;
      const part = share * (Math.min(column + 1, x + wide) - Math.max(column, x));
      sum += part * (inside ? picture.values[at] : ground);
    }
  }
  return sum / (wide * high);
}

// What the data's images have in common: the ground at their border, and the share of a side that ink takes.
function habitsOf(images, [channels, height, width]) {
  let [border, count] = [0, 0];
  const extents = [];
  for (const image of images) {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        if (row % (height - 1 || 1) && column % (width - 1 || 1)) continue;
        border += image[row * width + column];
        count += 1;
      }
    }
  }
  const ground = border / count < 0.5 ? 0 : 1;
  for (const image of images) {
    const box = inkBox({ values: image, width, height }, ground);
    if (box) extents.push(Math.max(box.wide / width, box.high / height));
  }
  extents.sort((a, b) => a - b);
  const even = Math.abs(border / count - ground) < 0.15 && channels === 1;
  return { ground, extent: extents[Math.floor(extents.length / 2)] ?? 1, even };
}

// Returns the box around what stands out of the ground and its centre of mass; null where nothing does.
function inkBox({ values, width, height }, ground) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  let [mass, x, y] = [0, 0, 0];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const ink = Math.abs(values[row * width + column] - ground);
      if (ink <= DRAWN) continue;
      [left, right] = [Math.min(left, column), Math.max(right, column)];
      [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
      mass += ink;
      x += ink * (column + 0.5);
      y += ink * (row + 0.5);
    }
  }
  if (!mass) return null;
  return { wide: right - left + 1, high: bottom - top + 1, x: x / mass, y: y / mass };
}

// Returns a picture whose ground is 0 or 1, as it should be, and whose strongest stroke is the other one.
function levelled(picture, ground, done) {
  const ink = picture.values.map((value) => Math.abs(value - ground));
  const border = borderOf({ ...picture, values: ink });
  const level = median(border);
  const darkest = level + GRAIN * median(border.map((value) => Math.abs(value - level)));
  const strongest = ink.reduce((most, value) => Math.max(most, value), 0);
  if (darkest < FAINT && strongest > 1 - 2 * FAINT) return picture;
  const isEmpty = strongest - darkest < DRAWN / 2; // a sheet, however grey
  if (!isEmpty) done.push(`contrast raised: ${darkest.toFixed(2)} to ${strongest.toFixed(2)} made 0 to 1`);
  const range = isEmpty ? 1 : strongest - darkest;
  const values = ink.map((value) => Math.abs(Math.min(1, Math.max(0, (value - darkest) / range)) - ground));
  return { ...picture, values };
}

// Makes thin strokes, which have become faint when they were made small, as strong as they were.
function strengthen(image, ground) {
  const strongest = image.reduce((most, value) => Math.max(most, Math.abs(value - ground)), DRAWN);
  image.forEach((value, i) => (image[i] = ground + (value - ground) / strongest));
}

// Returns an image of the data's shape and what was done to a picture for it.
function adapted(picture, shape, habits, centred) {
  const [channels, height, width] = shape;
  const done = [...(picture.changes ?? [])];
  let source = picture;
  const isOfTheirSize = source.width === width && source.height === height;
  if (channels === 1 && picture.coloured) done.push("colour made grey");
  if (channels === 1 && groundOf(picture) !== habits.ground) {
    source = { ...picture, values: picture.values.map((value) => 1 - value) };
    done.push("inverted");
  }
  if (habits.even && !isOfTheirSize) source = levelled(source, habits.ground, done);
  let scale = Math.max(source.width / width, source.height / height);
  let [x, y] = [source.width / 2, source.height / 2];
  const box = centred ? inkBox(source, habits.ground) : null;
  if (box) {
    scale = Math.max(box.wide / (width * habits.extent), box.high / (height * habits.extent));
    [x, y] = [box.x, box.y];
    done.push("centred");
  } else if (centred) done.push("nothing is drawn on it");
  const view = [x - (scale * width) / 2, y - (scale * height) / 2, scale * width, scale * height];
  if (!isOfTheirSize || box) done.push(`scaled to ${width} × ${height}`);
  const image = resampled(source, view, shape, habits.ground);
  if (box && channels === 1) strengthen(image, habits.ground);
  return { image, done };
}

function groundOf(picture) {
  return median(borderOf(picture)) < 0.5 ? 0 : 1;
}

function borderOf({ values, width, height }) {
  const border = [];
  for (let row = 0; row < height; row++) {
    const step = row % (height - 1 || 1) ? width - 1 || 1 : 1;
    for (let column = 0; column < width; column += step) border.push(values[row * width + column]);
  }
  return border;
}

function median(values) {
  const sorted = Float32Array.from(values).sort();
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}
