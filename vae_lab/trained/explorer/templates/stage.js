// The row of images, the original first, and below it the row of strips along one dimension or a blend.

const TILES = 7; // images of a strip, at most
const GAP = 2; // pixels between them
const SPAN = 3; // deviations of the prior, to both sides, that a strip goes along a dimension

class Stage {
  constructor(session) {
    this.session = session;
    this.original = make("canvas", { role: "img", class: "pixels" });
    this.note = make("p", { class: "note" });
    const head = make("h3", {}, "Image");
    byId("images").append(make("figure", { class: "original" }, head, this.original, this.note));
    this.cells = session.models.map((model) => this.cell(model));
    this.legend = make("p", { class: "lead" });
    byId("strips").append(make("div", { class: "original" }, this.legend));
    this.rows = session.models.map((model) => this.row(model));
    this.version = -1;
    const watcher = new ResizeObserver(() => this.measure());
    for (const { figure } of this.cells) watcher.observe(figure);
    for (const { row } of this.rows) watcher.observe(row);
    session.watch(() => this.render());
  }

  cell(model) {
    const head = make("h3", {}, modelMark(model), model.name);
    const canvas = make("canvas", { role: "img", class: "pixels", "aria-label": `Decoded by ${model.name}` });
    const notes = [...model.summary, ...(model.works ? [] : [model.reason])];
    const note = make("p", { class: "note" }, ...notes.map((line) => make("span", {}, line)));
    const figure = make("figure", { class: `model m${model.place}` }, head, model.works ? canvas : "", note);
    byId("images").append(figure);
    return { figure, canvas };
  }

  row(model) {
    const canvas = make("canvas", { role: "img", class: "pixels strip" });
    const name = make("p", { class: "name" }, modelMark(model), model.name);
    const row = make("div", { class: `model m${model.place}` }, name, model.works ? canvas : "");
    canvas.addEventListener("click", (event) => this.pick(model, canvas, event));
    byId("strips").append(row);
    return { row, canvas };
  }

  // A click on an image of a strip goes there.
  pick(model, canvas, event) {
    const { left, width } = canvas.getBoundingClientRect();
    const share = Math.min(canvas.tiles - 1, Math.floor(((event.clientX - left) / width) * canvas.tiles));
    const at = share / (canvas.tiles - 1);
    if (this.session.blending()) this.session.share(at);
    else {
      const { z, active } = this.session;
      const lead = this.session.lead(active);
      if (model.dimension(active) === undefined) return;
      const step = traversed(at) - z[model.place][model.dimension(active)];
      this.session.move(active, z[lead.place][lead.dimension(active)] + step);
    }
  }

  // Measures the columns: how large an image can be, and how many a strip can hold.
  measure() {
    const { session } = this;
    const [, height, width] = session.shape;
    const cells = [{ figure: this.original.parentElement, canvas: this.original }, ...this.cells];
    const room = Math.min(
      ...cells.filter(({ figure }) => figure.clientWidth).map(({ figure }) => figure.clientWidth),
    );
    for (const { canvas } of cells) fit(canvas, [width, height], room);
    for (const { row, canvas } of this.rows) {
      if (!row.clientWidth) continue;
      const most = Math.floor((row.clientWidth + GAP) / (width + GAP));
      const tiles = Math.max(3, Math.min(TILES, most - 1 + (most % 2)));
      canvas.tiles = tiles;
      fit(canvas, [tiles * (width + GAP) - GAP, height], row.clientWidth);
    }
    this.version = -1;
    session.changed();
  }

  render() {
    const { session } = this;
    document.documentElement.style.setProperty("--columns", String(session.visible().length + 1));
    this.cells.forEach(({ figure }, i) => (figure.hidden = !session.shown[i]));
    this.rows.forEach(({ row }, i) => (row.hidden = !session.shown[i]));
    byId("stage").classList.toggle("preview", session.preview !== null);
    const image = session.imageNow();
    this.original.hidden = !image;
    if (image) paint(this.original, image, session.shape);
    const words = (session.preview ?? session.start).words;
    this.note.textContent = image ? words : `${words}: there is no original`;
    this.original.setAttribute("aria-label", words);
    session.models.forEach((model, i) => {
      if (!model.works || !session.shown[i]) return;
      paint(this.cells[i].canvas, model.decode(session.latent(i), session.labelNow()), session.shape);
    });
    if (this.version !== session.strips && !session.preview) this.drawStrips();
  }

  blendsLabels() {
    const { blend, models, shown } = this.session;
    const conditional = models.some(({ works, conditions }, i) => works && conditions && shown[i]);
    return conditional && blend.from.label !== blend.to.label;
  }

  drawStrips() {
    const { session } = this;
    this.version = session.strips;
    const blending = session.blending();
    const rank = session.active + 1;
    const across = `from ${decimal(-SPAN, 0)} to ${SPAN}`;
    const blended = "From the one image to the other, each model in its own latent space";
    this.legend.textContent = blending
      ? `${blended}${this.blendsLabels() ? ", a CVAE's labels as well" : ""}`
      : `Along dimension ${rank}, ${across}: each model's own number ${rank} by information`;
    session.models.forEach((model, i) => {
      const { canvas } = this.rows[i];
      if (!model.works || !session.shown[i] || !canvas.tiles) return;
      const dimension = model.dimension(session.active);
      const missing = !blending && dimension === undefined;
      canvas.style.opacity = missing ? 0.25 : 1;
      canvas.setAttribute(
        "aria-label",
        missing ? `${model.name} has no dimension ${rank}` : `${model.name}: ${this.legend.textContent}`,
      );
      const z = session.z[i].slice();
      for (let tile = 0; tile < canvas.tiles; tile++) {
        const at = tile / (canvas.tiles - 1);
        if (blending) z.set(mixed(session.blend.from.z[i], session.blend.to.z[i], at));
        else if (!missing) z[dimension] = traversed(at);
        const label = blending ? blendedLabel(session.blend, at) : session.label;
        paint(canvas, model.decode(z, label), session.shape, [tile * (session.shape[2] + GAP), 0]);
      }
    });
  }
}

// Returns the value of the dimension at a share of the strip's way.
function traversed(share) {
  return SPAN * (2 * share - 1);
}
