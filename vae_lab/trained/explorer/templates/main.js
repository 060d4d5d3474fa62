// Starts the page: reads what it holds, unpacks the models, and builds its parts.

let session; // for who tries things in the browser's console

async function start() {
  const contents = JSON.parse(byId("contents").textContent);
  const held = await unpacked(contents.heldOut);
  const size = contents.shape.reduce((product, side) => product * side, 1);
  const images = contents.labels.map((_, i) => held.images.slice(i * size, (i + 1) * size));
  const models = await Promise.all(
    contents.models.map(async (model, i) => new Model(model, await unpacked(model.weights), i)),
  );
  session = new Session(models, { ...contents, images });
  chooseModels(session);
  session.take(session.heldOut(contents.first));
  const maps = new Maps(session);
  new Stage(session);
  new Sliders(session, contents.collapsed);
  new Source(session, maps, contents.look);
  document.documentElement.dataset.state = "ready";
}

// A box for each model: up to four stand side by side, one at least.
function chooseModels(session) {
  const boxes = session.models.map((model, i) => {
    const box = make("input", { type: "checkbox", checked: true });
    box.addEventListener("change", () => {
      if (boxes.some(({ checked }) => checked)) session.show(i, box.checked);
      else box.checked = true;
    });
    byId("models").append(make("label", {}, box, modelMark(model), model.name));
    return box;
  });
  byId("models").hidden = session.models.length < 2;
}

start().catch((error) => {
  byId("failed").hidden = false;
  byId("reason").textContent = String(error);
});
