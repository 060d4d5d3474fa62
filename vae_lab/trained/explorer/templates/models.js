// The models of the page: each encodes, decodes, and knows its own map of held-out images.

class Model {
  constructor(described, tensors, place) {
    Object.assign(this, described);
    this.place = place; // among the page's models: it chooses the colour
    this.works = !this.reason;
    this.coordinates = tensors[".map"];
    if (this.works) {
      this.runEncoder = network(this.networks.encode, tensors);
      this.runDecoder = network(this.networks.decode, tensors);
    }
  }

  condition(label) {
    const values = new Float32Array(this.conditions);
    if (this.conditions) for (const [one, share] of sharesOf(label)) values[one] += share;
    return values;
  }

  // Returns the mean and the standard deviation of each latent dimension, for an image in [0, 1].
  encode(image, label) {
    const [mean, logVariance] = this.runEncoder(image, this.condition(label));
    return { mean: mean.slice(), deviation: logVariance.map((value) => Math.exp(value / 2)) };
  }

  // Returns the expected image; the next call overwrites it.
  decode(z, label) {
    return this.runDecoder(z, this.condition(label))[0];
  }

  // Returns the latent dimension that is the k-th most informative one, from 0; undefined where there is none.
  dimension(k) {
    return this.order[k];
  }

  // Returns where a latent vector lies on the map.
  project(z) {
    return this.axes.map((axis) => axis.reduce((sum, value, i) => sum + value * (z[i] - this.centre[i]), 0));
  }

  // Returns the latent vector at a place of the map, at the mean of all other directions.
  lift([u, v]) {
    return Float32Array.from(this.centre, (value, i) => value + u * this.axes[0][i] + v * this.axes[1][i]);
  }
}

// What a conditional model is told is a label, or a blend of several: a list of labels, each with its share.
function sharesOf(label) {
  return typeof label === "number" ? [[label, 1]] : label;
}

// Returns the label at a share of a blend's way; between two labels it is a blend of them.
function blendedLabel({ from, to }, share) {
  if (from.label === to.label || share === 0) return from.label;
  if (share === 1) return to.label;
  const parts = (label, weight) => sharesOf(label).map(([one, part]) => [one, weight * part]);
  return [...parts(from.label, 1 - share), ...parts(to.label, share)];
}

// Returns the label that has the largest share of a blend.
function mainLabel(label) {
  return sharesOf(label).reduce((best, part) => (part[1] > best[1] ? part : best))[0];
}

// Whatever the models are shown: it has an image, or none for a draw, a label or null, words, and for each
// model that works a starting point in its latent space, with the posterior's deviations where it has one.
function startOf(models, image, label, words, own = {}) {
  const starts = models.map((model, i) => {
    if (!model.works) return null;
    return own[i] ? { mean: own[i], deviation: null } : model.encode(image, label);
  });
  return { image, label, words, starts };
}

// Returns a draw of the prior: the same noise along every model's dimensions, the most informative first.
function priorDraw(models, words) {
  const longest = Math.max(...models.map(({ latent }) => latent));
  const noise = Array.from({ length: longest }, normal);
  const starts = models.map((model) => {
    if (!model.works) return null;
    const mean = new Float32Array(model.latent);
    model.order.forEach((dimension, k) => (mean[dimension] = noise[k]));
    return { mean, deviation: null };
  });
  return { image: null, label: null, words, starts };
}

// Box & Muller's standard normal number.
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// Returns the label under which the first conditional model comes nearest to an image that has none.
function nearestLabel(models, image, labels) {
  const model = models.find(({ works, conditions }) => works && conditions);
  if (!model) return 0;
  const distances = labels.map((label) => {
    const decoded = model.decode(model.encode(image, label).mean, label);
    return decoded.reduce((sum, value, i) => sum + (value - image[i]) ** 2, 0);
  });
  const isNearer = (one, other) => one < other || Number.isNaN(other); // of a model that training has broken
  return labels[distances.reduce((best, distance, i) => (isNearer(distance, distances[best]) ? i : best), 0)];
}
