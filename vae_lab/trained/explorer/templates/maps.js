// A map for each model: held-out images at their posterior means, on the plane of the two directions in which
// these vary most. Pointing decodes a place, a click puts it on the sliders, dragging blends two places.

const NEAR = 7; // screen pixels within which a place is that of a dot
const DRAGGED = 6; // screen pixels after which a press is no click

class LatentMap {
  constructor(session, model) {
    Object.assign(this, { session, model });
    this.canvas = make("canvas", {
      class: "map", tabindex: model.works ? 0 : null, role: model.works ? "application" : "img",
      "aria-label": `Map of ${model.name}`, "aria-describedby": "map-help",
    });
    const share = `${Math.round(100 * model.variance)} % of the variance`;
    const name = make("p", { class: "name" }, modelMark(model), model.name);
    const note = make("p", { class: "note" }, share);
    this.cell = make("div", { class: `model m${model.place}` }, name, this.canvas, note);
    byId("maps").append(this.cell);
    this.dots = document.createElement("canvas");
    this.bounds();
    if (model.works) this.listen();
  }

  // The same scale on both axes, around the middle of all dots.
  bounds() {
    const [us, vs] = [0, 1].map((axis) => this.model.coordinates.filter((_, i) => i % 2 === axis));
    const range = (values) => [Math.min(...values), Math.max(...values)];
    const [[left, right], [low, high]] = [range(us), range(vs)];
    this.middle = [(left + right) / 2, (low + high) / 2];
    this.radius = (Math.max(right - left, high - low) / 2) * 1.06 || 1;
  }

  toScreen([u, v]) {
    const half = this.side / 2;
    return [
      half + ((u - this.middle[0]) / this.radius) * half,
      half - ((v - this.middle[1]) / this.radius) * half,
    ];
  }

  toPlane([x, y]) {
    const half = this.side / 2;
    return [
      this.middle[0] + ((x - half) / half) * this.radius,
      this.middle[1] - ((y - half) / half) * this.radius,
    ];
  }

  // Returns the held-out image whose dot lies at a place of the screen, or -1.
  nearest([x, y]) {
    let [best, distance] = [-1, NEAR];
    for (let i = 0; i < this.session.images.length; i++) {
      const [dotX, dotY] = this.toScreen(this.dot(i));
      const away = Math.hypot(dotX - x, dotY - y);
      if (away < distance) [best, distance] = [i, away];
    }
    return best;
  }

  dot(i) {
    return [this.model.coordinates[2 * i], this.model.coordinates[2 * i + 1]];
  }

  startAt(point) {
    const i = this.nearest(point);
    return i >= 0 ? this.session.heldOut(i) : this.session.place(this.model, this.toPlane(point));
  }

  listen() {
    const { canvas, session } = this;
    const at = ({ clientX, clientY }) => {
      const { left, top } = canvas.getBoundingClientRect();
      return [clientX - left, clientY - top];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pressed = at(event);
      this.pressedStart = this.startAt(this.pressed);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.pointer = at(event);
      session.look(this.startAt(this.pointer));
    });
    canvas.addEventListener("pointerup", (event) => this.release(at(event)));
    canvas.addEventListener("pointercancel", () => this.leave());
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => this.leave());
  }

  release(point) {
    if (!this.pressed) return;
    const moved = Math.hypot(point[0] - this.pressed[0], point[1] - this.pressed[1]);
    const [from, to] = [this.pressedStart, this.startAt(point)];
    this.pressed = null;
    const z = from.starts.map((start) => start && start.mean);
    if (moved > DRAGGED) this.session.blendTo(to, { ...from, z });
    else this.session.take(to);
  }

  leave() {
    this.pressed = null;
    this.pointer = null;
    this.session.look(null);
  }

  // Arrows go over the map, Enter puts the place on the sliders, with Shift it ends a blend that starts there.
  key(event) {
    const step = this.side / (event.shiftKey ? 12 : 48);
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) {
      const from = this.pointer ?? this.toScreen(this.model.project(this.session.z[this.model.place]));
      const inside = (value) => Math.min(this.side, Math.max(0, value));
      this.pointer = from.map((value, axis) => inside(value + moves[event.key][axis]));
      this.session.look(this.startAt(this.pointer), true);
    } else if (event.key === "Enter" && this.pointer) {
      const start = this.startAt(this.pointer);
      if (event.shiftKey) this.session.blendTo(start);
      else this.session.take(start);
    } else if (event.key === "Escape") this.leave();
    else return;
    event.preventDefault();
  }

  measure() {
    const side = Math.floor(this.cell.clientWidth);
    if (!side) return;
    const ratio = window.devicePixelRatio || 1;
    this.side = side;
    for (const canvas of [this.canvas, this.dots]) canvas.width = canvas.height = Math.round(side * ratio);
    this.canvas.style.width = this.canvas.style.height = `${side}px`;
    const context = this.dots.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, side, side);
    const radius = Math.max(1.6, side / 110);
    const colours = this.session.classes.map((_, label) => classColour(label));
    this.session.labels.forEach((label, i) => {
      context.beginPath();
      context.arc(...this.toScreen(this.dot(i)), radius, 0, 2 * Math.PI);
      context.globalAlpha = this.session.emphasized === null || this.session.emphasized === label ? 0.85 : 0.12;
      context.fillStyle = colours[label];
      context.fill();
    });
  }

  render() {
    const { session, model, canvas } = this;
    this.cell.hidden = !session.shown[model.place];
    if (this.cell.hidden || !this.side) return;
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(this.dots, 0, 0);
    const ratio = canvas.width / this.side;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (!model.works) return;
    if (session.blend) this.line(context, session.blend.from.z[model.place], session.blend.to.z[model.place]);
    if (this.pressed && this.pointer) this.stroke(context, this.pressed, this.pointer);
    this.mark(context, this.toScreen(model.project(session.latent(model.place))));
  }

  line(context, from, to) {
    this.stroke(context, this.toScreen(this.model.project(from)), this.toScreen(this.model.project(to)));
  }

  stroke(context, from, to) {
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(...to);
    context.strokeStyle = colour("--ink");
    context.lineWidth = 1.5;
    context.stroke();
  }

  mark(context, point) {
    const inside = point.map((value) => Math.min(this.side - 7, Math.max(7, value)));
    context.beginPath();
    context.arc(...inside, 6, 0, 2 * Math.PI);
    context.lineWidth = 4;
    context.strokeStyle = colour("--sheet");
    context.stroke();
    context.lineWidth = 2;
    context.strokeStyle = colour("--ink");
    context.stroke();
  }
}

// Classes beyond the tenth take the colours again.
function classColour(label) {
  return colour(`--k${label % 10}`);
}

class Maps {
  constructor(session) {
    this.session = session;
    session.emphasized = null;
    this.maps = session.models.map((model) => new LatentMap(session, model));
    const watcher = new ResizeObserver(() => this.measure());
    for (const { cell } of this.maps) watcher.observe(cell);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.measure());
    session.watch(() => this.maps.forEach((map) => map.render()));
  }

  // Draws the dots anew: for another size, other colours, or one class before the others.
  measure() {
    this.maps.forEach((map) => map.measure());
    this.session.changed();
  }

  emphasize(label) {
    if (this.session.emphasized === label) return;
    this.session.emphasized = label;
    this.measure();
  }
}
