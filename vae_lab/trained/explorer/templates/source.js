// Where images come from: held-out ones by class, a draw of the prior, one's own drawing or picture.

const LARGEST_PICTURE = 4096; // pixels of its longer side; some browsers have no larger canvas

class Source {
  constructor(session, maps, look) {
    Object.assign(this, { session, maps, look });
    this.next = session.classes.map(() => 0);
    this.buildClasses();
    byId("prior").addEventListener("click", () => session.take(this.draw()));
    byId("await").addEventListener("click", () => {
      session.awaiting = !session.awaiting;
      session.changed();
    });
    byId("share").addEventListener("input", (event) => session.share(Number(event.target.value) / 100));
    byId("centred").checked = look.ground !== null;
    byId("centred").parentElement.hidden = look.ground === null; // nothing tells a subject from its ground
    byId("centred").addEventListener("change", () => this.own && this.offer(this.own, true, true));
    const drawn = (picture, ended) => this.offer({ picture, words: "Your drawing", source: this.pad }, ended);
    this.pad = new Pad(session.shape, this.look, drawn);
    this.listenForFiles();
    session.watch(() => this.render());
  }

  draw() {
    return priorDraw(this.session.models, "A draw of the prior, decoded by each model");
  }

  // A button for each class that shows the next held-out image of it.
  buildClasses() {
    const { session } = this;
    this.buttons = session.classes.map((name, label) => {
      const canvas = make("canvas", { class: "pixels", "aria-hidden": "true" });
      const dot = make("span", { class: "dot", "aria-hidden": "true" });
      dot.style.setProperty("background", `var(--k${label % 10})`);
      const button = make("button", { type: "button" }, canvas, dot, make("span", { class: "class" }, name));
      button.setAttribute("aria-label", `Another held-out image of class ${name}`);
      const members = session.labels.flatMap((other, i) => (other === label ? [i] : []));
      button.hidden = !members.length;
      button.addEventListener("click", () => {
        session.take(session.heldOut(members[this.next[label] % members.length]));
        this.next[label] += 1;
        this.show(canvas, members[this.next[label] % members.length]);
      });
      for (const event of ["pointerenter", "focus"]) {
        button.addEventListener(event, () => this.maps.emphasize(label));
      }
      for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => this.maps.emphasize(null));
      if (members.length) this.show(canvas, members[0]);
      byId("classes").append(button);
      return button;
    });
  }

  show(canvas, i) {
    const [, height, width] = this.session.shape;
    fit(canvas, [width, height], 36);
    paint(canvas, this.session.images[i], this.session.shape);
  }

  // Shows a picture of the user's to all models; a conditional one is told the label that fits it best.
  // Further strokes of a drawing, and the picture made anew, change that end of a blend which it has become.
  offer(own, ended = true, anew = false) {
    const { session } = this;
    const { picture, words, source } = own;
    const { image, done } = adapted(picture, session.shape, this.look, byId("centred").checked);
    this.own = own;
    const conditional = session.models.some(({ works, conditions }) => works && conditions);
    const label = ended ? nearestLabel(session.models, image, session.trained) : session.label;
    const told = conditional && ended ? [`label ${session.classes[label]} fits best`] : [];
    const start = { ...startOf(session.models, image, label, [words, ...done, ...told].join(", ")), source };
    const isEnd = session.blend?.to.source === source;
    if (!ended && (isEnd || session.awaiting)) session.look(start);
    else if (isEnd) session.blendTo(start, session.blend.from, session.blend.share);
    else session.take(start, ended && !anew);
  }

  listenForFiles() {
    byId("file").addEventListener("change", ({ target }) => {
      this.read(target.files[0]);
      target.value = ""; // else the same file, changed on the disk, would be no change
    });
    document.addEventListener("paste", (event) => this.read(event.clipboardData?.files[0]));
    document.addEventListener("dragover", (event) => event.preventDefault());
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      this.read(event.dataTransfer.files[0]);
    });
  }

  async read(file) {
    if (!file) return;
    try {
      const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }); // as Python reads it
      const scale = Math.min(1, LARGEST_PICTURE / Math.max(bitmap.width, bitmap.height));
      const canvas = document.createElement("canvas");
      canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      const shrunk = scale < 1 ? [`scaled to ${canvas.width} × ${canvas.height}`] : [];
      const changes = [...shrunk, ...madeOpaque(canvas)];
      const picture = { ...pixelsOf(canvas, this.session.shape[0]), changes };
      this.offer({ picture, words: file.name, source: picture });
    } catch {
      byId("trouble").textContent = `${file.name} is no picture that this browser can read.`;
      byId("trouble").hidden = false;
      this.troubled = this.session.start; // with another image the message goes
    }
  }

  render() {
    const { session } = this;
    const words = session.preview && !session.pointsAloud ? this.said : (session.preview ?? session.start).words;
    if (this.said !== words) byId("said").textContent = this.said = words;
    if (session.start !== this.troubled) byId("trouble").hidden = true;
    byId("await").setAttribute("aria-pressed", String(session.awaiting));
    byId("blend").hidden = !session.blend;
    if (session.blend) {
      byId("share").value = 100 * session.blend.share;
      byId("share-text").textContent = `${Math.round(100 * session.blend.share)} %`;
    }
  }
}

// A canvas to draw on, by mouse, finger or keys: arrows move the pen, the space bar lowers and lifts it.
class Pad {
  constructor([channels, height, width], look, drawn) {
    Object.assign(this, { channels, look, drawn });
    this.canvas = byId("pad");
    const scale = Math.max(2, Math.round(224 / Math.max(width, height)));
    const paper = this.canvas.parentElement.style; // of the data's proportions, so that a place on it is one of theirs
    paper.aspectRatio = `${width} / ${height}`;
    paper.maxWidth = `${12 * Math.min(1, width / height)}rem`;
    [this.canvas.width, this.canvas.height] = [width * scale, height * scale];
    this.thick = Math.max(width, height) * scale * 0.085;
    this.pen = [this.canvas.width / 2, this.canvas.height / 2];
    this.lowered = false;
    this.clear();
    byId("clear").addEventListener("click", () => this.clear());
    this.listen();
  }

  clear() {
    const context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.canvas.parentElement.classList.remove("drawn");
    context.fillStyle = this.look.ground ? "#fff" : "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  listen() {
    const { canvas } = this;
    const at = ({ clientX, clientY }) => {
      const { left, top } = canvas.getBoundingClientRect();
      const [x, y] = [clientX - left - canvas.clientLeft, clientY - top - canvas.clientTop];
      return [(x / canvas.clientWidth) * canvas.width, (y / canvas.clientHeight) * canvas.height];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pen = at(event);
      this.drawing = true;
      this.lineTo(this.pen);
    });
    canvas.addEventListener("pointermove", (event) => this.drawing && this.lineTo(at(event)));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.end());
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  lineTo(point, ended = false) {
    const context = this.canvas.getContext("2d");
    context.strokeStyle = this.look.ground ? "#000" : "#fff";
    context.lineWidth = this.thick;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(this.pen[0] - 0.01, this.pen[1]); // a line without length would be no dot
    context.lineTo(...point);
    context.stroke();
    this.canvas.parentElement.classList.add("drawn");
    this.pen = point;
    this.drawn(pixelsOf(this.canvas, this.channels), ended);
  }

  end() {
    if (!this.drawing) return;
    this.drawing = false;
    this.drawn(pixelsOf(this.canvas, this.channels), true);
  }

  key(event) {
    const step = Math.max(this.canvas.width, this.canvas.height) / 28;
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) {
      const inside = (value, axis) => Math.min([this.canvas.width, this.canvas.height][axis], Math.max(0, value));
      const to = this.pen.map((value, axis) => inside(value + moves[event.key][axis], axis));
      if (this.lowered) this.lineTo(to, true);
      this.pen = to;
    } else if (event.key === " ") {
      this.lowered = !this.lowered;
      if (this.lowered) this.lineTo(this.pen, true);
    } else if (event.key === "Delete" || event.key === "Backspace") this.clear();
    else return;
    byId("pen").style.left = `${(100 * this.pen[0]) / this.canvas.width}%`;
    byId("pen").style.top = `${(100 * this.pen[1]) / this.canvas.height}%`;
    byId("pen").classList.toggle("lowered", this.lowered);
    event.preventDefault();
  }
}
