// The sliders: one for each rank of information, moved in all models at once, and the labels of a CVAE.

class Sliders {
  constructor(session, collapsed) {
    this.session = session;
    this.collapsed = collapsed; // nats below which a dimension says nothing of the image
    byId("reset").addEventListener("click", () => session.reset());
    this.build();
    this.buildLabels();
    session.watch(() => this.render());
  }

  ranks() {
    return Math.max(0, ...this.session.visible().map((model) => (model.works ? model.latent : 0)));
  }

  says(model, k) {
    return (model.kl[model.dimension(k)] ?? 0) >= this.collapsed;
  }

  build() {
    const { session } = this;
    this.built = session.shown.join();
    this.rows = Array.from({ length: this.ranks() }, (_, k) => this.row(k));
    const working = session.visible().filter((model) => model.works);
    const used = this.rows.filter(({ k }) => working.some((model) => this.says(model, k)));
    const unused = this.rows.filter((row) => !used.includes(row));
    byId("dimensions").replaceChildren(...used.map(({ item }) => item));
    byId("collapsed-dimensions").replaceChildren(...unused.map(({ item }) => item));
    byId("collapsed").hidden = !unused.length;
    const count = unused.length === 1 ? "1 collapsed dimension" : `${unused.length} collapsed dimensions`;
    byId("collapsed-count").textContent = `${count}: the posterior is the prior, whatever the image`;
  }

  row(k) {
    const { session } = this;
    const models = session.visible().filter((model) => model.works);
    const reach = Math.max(4, ...models.map((model) => model.reach[model.dimension(k)] ?? 0));
    const id = `dimension-${k + 1}`;
    const input = make("input", {
      id, type: "range", min: -reach, max: reach, step: 0.05, "aria-describedby": `${id}-use`,
    });
    input.addEventListener("input", () => session.move(k, Number(input.value)));
    input.addEventListener("focus", () => session.follow(k));
    const bars = models.map((model) => this.bar(model, k));
    const bands = make("div", { class: "bands", "aria-hidden": "true" }, ...bars.map(({ lane }) => lane));
    const output = make("output", { for: id });
    const label = make("label", { for: id }, make("span", { class: "unseen" }, "Dimension "), String(k + 1));
    const uses = models.map((model) => this.use(model, k));
    const use = make("p", { class: "use", id: `${id}-use` }, ...uses);
    const item = make("li", {}, label, make("div", { class: "track" }, bands, input), output, use);
    return { k, item, input, output, bars, reach };
  }

  bar(model, k) {
    const band = make("span", { class: "band" });
    const tick = make("span", { class: "tick" });
    const lane = make("div", { class: `lane m${model.place}` }, band, tick);
    lane.hidden = model.dimension(k) === undefined;
    return { model, band, tick, lane };
  }

  // How much a model's k-th dimension tells of an image.
  use(model, k) {
    const kl = model.kl[model.dimension(k)];
    const text = kl === undefined ? "none" : kl < this.collapsed ? "collapsed" : kl.toFixed(2);
    const unit = make("span", { class: "unseen" }, kl >= this.collapsed ? " nats" : "");
    return make("span", {}, modelMark(model), make("span", { class: "unseen" }, `${model.name}: `), text, unit);
  }

  buildLabels() {
    const { session } = this;
    const conditional = session.models.filter(({ works, conditions }) => works && conditions);
    byId("labels").hidden = !conditional.length;
    this.labelsOf = `Label, for ${conditional.map(({ name }) => name).join(", ")}`;
    this.labels = session.trained.map((label) => {
      const input = make("input", { type: "radio", name: "label", value: label });
      input.addEventListener("change", () => session.choose(label));
      byId("label-choices").append(make("label", {}, input, make("span", {}, session.classes[label])));
      return input;
    });
  }

  render() {
    const { session } = this;
    if (this.built !== session.shown.join()) this.build();
    for (const { k, input, output, bars, reach, item } of this.rows) {
      item.classList.toggle("active", k === session.active && !session.blending());
      const lead = session.lead(k);
      const value = session.z[lead.place][lead.dimension(k)];
      if (document.activeElement !== input || Math.abs(value - input.value) > 0.05) input.value = value;
      output.textContent = decimal(value);
      for (const { model, band, tick } of bars) {
        const dimension = model.dimension(k);
        if (dimension === undefined) continue;
        const start = session.start.starts[model.place];
        band.hidden = !start?.deviation;
        if (start?.deviation) {
          const [mean, deviation] = [start.mean[dimension], start.deviation[dimension]];
          band.style.left = portion(mean - deviation, reach);
          band.style.right = portion(-mean - deviation, reach);
        }
        tick.style.left = portion(session.z[model.place][dimension], reach);
      }
    }
    this.renderLabels(session.labelNow());
  }

  // Of a blend no label is chosen, and the legend says which ones it is of.
  renderLabels(label) {
    const { classes, trained } = this.session;
    this.labels.forEach((input, i) => (input.checked = trained[i] === label));
    const parts = sharesOf(label).map(([one, share]) => `${Math.round(100 * share)} % ${classes[one]}`);
    byId("labels-of").textContent = this.labelsOf + (parts.length > 1 ? `: ${parts.join(", ")}` : "");
  }
}

// Where a value lies on a slider, as a share of its width.
function portion(value, reach) {
  return `${(100 * Math.min(1, Math.max(0, (value + reach) / (2 * reach)))).toFixed(2)}%`;
}
