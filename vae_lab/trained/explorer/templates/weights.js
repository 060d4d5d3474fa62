// Unpacks what `weights.py` packed: numbers as bytes, deflated and in base 85.

// The 85 signs of RFC 1924, whose < would end a script element and stands as a comma.
const SIGNS =
  "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;,=>?@^_`{|}~";

const USUAL = 2 ** 15; // is added to rounded numbers, so that nearly all have a high byte of 0

// Returns the bytes of a text in base 85: five signs for four bytes, where base 64 takes more than five.
function bytesOf(text) {
  const values = new Uint8Array(128);
  for (let i = 0; i < SIGNS.length; i++) values[SIGNS.charCodeAt(i)] = i;
  const groups = Math.ceil(text.length / 5);
  const bytes = new DataView(new ArrayBuffer(4 * groups));
  for (let group = 0; group < groups; group++) {
    let number = 0;
    for (let i = 5 * group; i < 5 * group + 5; i++) {
      number = 85 * number + (i < text.length ? values[text.charCodeAt(i)] : 84);
    }
    bytes.setUint32(4 * group, number);
  }
  return new Uint8Array(bytes.buffer, 0, Math.floor((4 * text.length) / 5));
}

async function inflated(text) {
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// Returns tensors by name. The low bytes of all rounded numbers come first, then their middle and their high bytes,
// which are alike and deflate well, then the numbers that are not rounded, as floats.
async function unpacked({ bytes, tensors }) {
  const raw = await inflated(bytes);
  const rounded = tensors.filter(({ step }) => step).reduce((sum, { size }) => sum + size, 0);
  const floats = new Float32Array(raw.slice(3 * rounded).buffer);
  const values = {};
  let [low, next] = [0, 0];
  for (const { name, size, step } of tensors) {
    if (step) {
      const numbers = new Float32Array(size);
      for (let i = 0; i < size; i++, low++) {
        const number = raw[low] | (raw[rounded + low] << 8) | (raw[2 * rounded + low] << 16);
        numbers[i] = step * (((number << 8) >> 8) - USUAL);
      }
      values[name] = numbers;
    } else {
      values[name] = floats.slice(next, next + size);
      next += size;
    }
  }
  return values;
}
