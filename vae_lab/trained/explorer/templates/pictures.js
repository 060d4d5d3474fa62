// Images on canvases in their own pixels, and pictures of any size made into images of the data's shape.

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
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue] = data.subarray(4 * i, 4 * i + 3);
    if (channels === 1) values[i] = (0.299 * red + 0.587 * green + 0.114 * blue) / 255;
    else [red, green, blue].forEach((value, channel) => (values[channel * width * height + i] = value / 255));
  }
  return { values, width, height, channels };
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
      if (ink < 0.2) continue;
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

// Returns an image of the data's shape and what was done to a picture for it.
function adapted(picture, shape, habits, centred) {
  const [channels, height, width] = shape;
  const done = [];
  let source = picture;
  if (channels === 1 && groundOf(picture) !== habits.ground) {
    source = { ...picture, values: picture.values.map((value) => 1 - value) };
    done.push("inverted");
  }
  let scale = Math.max(source.width / width, source.height / height);
  let [x, y] = [source.width / 2, source.height / 2];
  const box = centred ? inkBox(source, habits.ground) : null;
  if (box) {
    scale = Math.max(box.wide / (width * habits.extent), box.high / (height * habits.extent));
    [x, y] = [box.x, box.y];
    done.push("centred");
  }
  const view = [x - (scale * width) / 2, y - (scale * height) / 2, scale * width, scale * height];
  if (source.width !== width || source.height !== height || box) done.push(`scaled to ${width} × ${height}`);
  return { image: resampled(source, view, shape, habits.ground), done };
}

function groundOf({ values, width, height }) {
  let [sum, count] = [0, 0];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (row > 0 && row < height - 1 && column > 0 && column < width - 1) continue;
      sum += values[row * width + column];
      count += 1;
    }
  }
  return sum / count < 0.5 ? 0 : 1;
}
