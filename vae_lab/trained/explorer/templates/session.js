// What the page shows: an image, what each model makes of it, and how far the sliders have gone from there.

class Session {
  constructor(models, { images, labels, numbers, shape, classes, trained }) {
    Object.assign(this, { models, images, labels, numbers, shape, classes, trained });
    this.shown = models.map(() => true);
    this.label = 0; // of a blend's labels the one that has the largest share
    this.active = 0; // the rank of the dimension that the strips go along
    this.blend = null; // { from, to, share }, both with latent vectors of every model and the label for all
    this.awaiting = false; // whether the next image ends a blend
    this.preview = null; // what the pointer shows, until it leaves
    this.pointsAloud = false; // whether that is said, as where keys point and nobody may see it
    this.strips = 0; // counts what changes the strips
    this.watchers = [];
  }

  // Calls `render` once before the next frame after any change.
  watch(render) {
    this.watchers.push(render);
  }

  changed() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      for (const render of this.watchers) render(this);
    });
  }

  visible() {
    return this.models.filter((_, i) => this.shown[i]);
  }

  // Returns the model whose latent vector the slider of this rank shows: the first one that has the dimension.
  lead(k) {
    const [first] = this.visible().filter((model) => model.works && model.dimension(k) !== undefined);
    return first;
  }

  heldOut(i) {
    const words = `Held-out image ${this.numbers[i]}, class ${this.classes[this.labels[i]]}`;
    return { ...startOf(this.models, this.images[i], this.labels[i], words), index: i };
  }

  // Returns the image at a place of one model's map; its own latent vector there is exact.
  place(model, coordinates) {
    const z = model.lift(coordinates);
    const image = model.decode(z, this.label).slice();
    const words = `An image decoded by ${model.name} at ${coordinates.map((u) => decimal(u)).join(", ")} of its map`;
    return startOf(this.models, image, this.label, words, { [model.place]: z });
  }

  take(start, mayEndBlend = true) {
    if (mayEndBlend && this.awaiting) {
      this.blendTo(start);
      return;
    }
    this.blend = null;
    this.preview = null;
    this.start = start;
    if (start.label !== null) this.label = start.label;
    this.reset();
  }

  reset() {
    if (this.blend) this.share(this.blend.share);
    else this.z = this.start.starts.map((start) => start && start.mean.slice());
    this.strips += 1;
    this.changed();
  }

  blendTo(start, from = { ...this.start, z: this.z, label: this.ownLabel() }, share = 0.5) {
    this.awaiting = false;
    this.preview = null;
    const to = { ...start, z: start.starts.map((end) => end && end.mean), label: start.label ?? from.label };
    this.blend = { from, to };
    this.start = {
      image: null,
      label: null,
      words: `Blend from “${from.words}” to “${to.words}”`,
      starts: this.models.map(() => null),
    };
    this.share(share);
    this.strips += 1;
  }

  share(share) {
    const { from, to } = this.blend;
    this.blend.share = share;
    this.z = this.models.map((model, i) => model.works ? mixed(from.z[i], to.z[i], share) : null);
    if (from.image && to.image) this.start.image = mixed(from.image, to.image, share);
    this.label = mainLabel(this.ownLabel());
    this.changed();
  }

  // Moves every model along its own k-th most informative dimension, as far as the slider's model goes.
  move(k, value) {
    const lead = this.lead(k);
    const step = value - this.z[lead.place][lead.dimension(k)];
    this.models.forEach((model, i) => {
      if (model.works && model.dimension(k) !== undefined) this.z[i][model.dimension(k)] += step;
    });
    if (k !== this.active || this.blending()) this.strips += 1;
    this.active = k;
    this.changed();
  }

  follow(k) {
    if (k !== this.active) this.strips += 1;
    this.active = k;
    this.changed();
  }

  choose(label) {
    this.label = label;
    if (this.blend) this.blend.from.label = this.blend.to.label = label;
    this.strips += 1;
    this.changed();
  }

  show(i, shown) {
    this.shown[i] = shown;
    this.strips += 1;
    this.changed();
  }

  look(start, aloud = false) {
    if (start === null && this.preview === null) return;
    this.preview = start;
    this.pointsAloud = aloud;
    this.changed();
  }

  blending() {
    return this.blend !== null;
  }

  // Returns what a model decodes now, and the label under which it does.
  latent(i) {
    return this.preview ? this.preview.starts[i].mean : this.z[i];
  }

  labelNow() {
    return this.preview?.label ?? this.ownLabel();
  }

  // The same without what the pointer shows; between the two labels of a blend it is a blend of them.
  ownLabel() {
    return this.blend ? blendedLabel(this.blend, this.blend.share) : this.label;
  }

  imageNow() {
    return this.preview ? this.preview.image : this.start.image;
  }
}

function mixed(a, b, share) {
  return a.map((value, i) => (1 - share) * value + share * b[i]);
}
