// A model's operations as torch traced them, on flat Float32Arrays: images are row after row, channel after
// channel, and the batch axis, of size 1, is left out. `graph.py` says what the page knows; both have one name
// for an operation.

const ERF = [0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429];

// Abramowitz & Stegun 7.1.26: off by at most 1.5e-7.
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const tail = t * (ERF[0] + t * (ERF[1] + t * (ERF[2] + t * (ERF[3] + t * ERF[4])))) * Math.exp(-x * x);
  return Math.sign(x) * (1 - tail);
}

// Operations on one number; each is made from the options that torch's function was called with.
const OF_ONE = {
  relu: () => (x) => (x > 0 ? x : 0),
  leaky_relu: ({ negative_slope }) => (x) => (x > 0 ? x : negative_slope * x),
  elu: ({ alpha, scale, input_scale }) => (x) =>
    x > 0 ? scale * x : scale * alpha * Math.expm1(input_scale * x),
  gelu: ({ approximate }) =>
    approximate === "tanh"
      ? (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
      : (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  silu: () => (x) => x / (1 + Math.exp(-x)),
  tanh: () => Math.tanh,
  softplus: ({ beta, threshold }) => (x) => (x * beta > threshold ? x : Math.log1p(Math.exp(x * beta)) / beta),
  sigmoid: () => (x) => 1 / (1 + Math.exp(-x)),
  abs: () => Math.abs,
  neg: () => (x) => -x,
  exp: () => Math.exp,
  expm1: () => Math.expm1,
  log1p: () => Math.log1p,
  reciprocal: () => (x) => 1 / x,
  ones_like: () => () => 1,
};

// Operations on two numbers; a tensor of one number meets every number of the other.
const OF_TWO = {
  add: (x, y) => x + y,
  sub: (x, y) => x - y,
  mul: (x, y) => x * y,
  div: (x, y) => x / y,
  lt: (x, y) => (x < y ? 1 : 0),
};

// Operations with a form of their own: each takes its options, its inputs and its output.
const OF_MANY = {
  where: (_, [condition, yes, no], out) => {
    const [moveC, moveY, moveN] = [condition, yes, no].map(({ length }) => (length > 1 ? 1 : 0));
    return () => {
      for (let i = 0; i < out.length; i++) out[i] = condition[i * moveC] ? yes[i * moveY] : no[i * moveN];
    };
  },
  cat: (_, parts, out) => () => {
    let at = 0;
    for (const part of parts) {
      out.set(part, at);
      at += part.length;
    }
  },
  // Every number of the input `times` times in a row: a label as planes of an image.
  repeat: ({ times }, [x], out) => () => {
    for (let i = 0; i < x.length; i++) out.fill(x[i], i * times, (i + 1) * times);
  },
  slice: ({ start }, [x], out) => () => out.set(x.subarray(start, start + out.length)),
  linear: (_, [x, weight, bias], out) => {
    const outputs = bias.length;
    const inputs = weight.length / outputs;
    return () => {
      for (let row = 0; row * inputs < x.length; row++) {
        for (let o = 0; o < outputs; o++) {
          out[row * outputs + o] = bias[o] + product(weight, o * inputs, x, row * inputs, inputs);
        }
      }
    };
  },
  conv2d: (options, operands, out) => convolution(options, operands, out, false),
  conv_transpose2d: (options, operands, out) => convolution(options, operands, out, true),
};

// A filter joins each place of a small plane to one of a large plane: a convolution adds up what lies on the
// large one, a transposed one spreads out what lies on the small one.
function convolution({ taken, given, filter, stride, padding, dilation, groups }, [x, weight, bias], out, spreads) {
  const [smallChannels, smallHeight, smallWidth] = spreads ? taken : given;
  const [largeChannels, largeHeight, largeWidth] = spreads ? given : taken;
  const [height, width] = filter;
  const inGroup = [smallChannels / groups, largeChannels / groups];
  const plane = out.length / bias.length;
  return () => {
    for (let o = 0; o < bias.length; o++) out.fill(bias[o], o * plane, (o + 1) * plane);
    for (let s = 0; s < smallChannels; s++) {
      const first = Math.floor(s / inGroup[0]) * inGroup[1];
      for (let l = 0; l < inGroup[1]; l++) {
        for (let a = 0; a < height; a++) {
          for (let b = 0; b < width; b++) {
            const factor = weight[((s * inGroup[1] + l) * height + a) * width + b];
            for (let row = 0; row < smallHeight; row++) {
              const y = row * stride[0] - padding[0] + a * dilation[0];
              if (y < 0 || y >= largeHeight) continue;
              const small = (s * smallHeight + row) * smallWidth;
              const large = ((first + l) * largeHeight + y) * largeWidth;
              for (let column = 0; column < smallWidth; column++) {
                const at = column * stride[1] - padding[1] + b * dilation[1];
                if (at < 0 || at >= largeWidth) continue;
                if (spreads) out[large + at] += factor * x[small + column];
                else out[small + column] += factor * x[large + at];
              }
            }
          }
        }
      }
    }
  };
}

// The inner product of two stretches; four sums at a time, as a processor adds while it waits for the last sum.
function product(a, at, b, bt, length) {
  let [p, q, r, s] = [0, 0, 0, 0];
  let i = 0;
  for (; i + 3 < length; i += 4) {
    p += a[at + i] * b[bt + i];
    q += a[at + i + 1] * b[bt + i + 1];
    r += a[at + i + 2] * b[bt + i + 2];
    s += a[at + i + 3] * b[bt + i + 3];
  }
  for (; i < length; i++) p += a[at + i] * b[bt + i];
  return p + q + r + s;
}

function ofOne(number, [x], out) {
  return () => {
    for (let i = 0; i < out.length; i++) out[i] = number(x[i]);
  };
}

function ofTwo(number, [x, y], out) {
  const [moveX, moveY] = [x.length > 1 ? 1 : 0, y.length > 1 ? 1 : 0];
  return () => {
    for (let i = 0; i < out.length; i++) out[i] = number(x[i * moveX], y[i * moveY]);
  };
}

// Returns a function of flat inputs that runs a traced graph; what it returns is overwritten by its next run.
function network(graph, tensors) {
  const values = new Map(Object.entries(tensors));
  for (const [name, size] of Object.entries(graph.inputs)) values.set(name, new Float32Array(size));
  const inputs = Object.keys(graph.inputs).map((name) => values.get(name));
  const steps = graph.steps.map(({ op, of, to, size, ...options }) => {
    const operands = of.map((operand) =>
      typeof operand === "number" ? Float32Array.of(operand) : values.get(operand),
    );
    const out = new Float32Array(size);
    values.set(to, out);
    if (op in OF_ONE) return ofOne(OF_ONE[op](options), operands, out);
    if (op in OF_TWO) return ofTwo(OF_TWO[op], operands, out);
    return OF_MANY[op](options, operands, out);
  });
  const outputs = graph.outputs.map((name) => values.get(name));
  return (...given) => {
    given.forEach((value, i) => inputs[i].set(value));
    for (const step of steps) step();
    return outputs;
  };
}
