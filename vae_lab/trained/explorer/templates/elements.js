// Elements of the page. Texts become text nodes and never markup, whatever a run is called.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

function byId(id) {
  return document.getElementById(id);
}

// A negative number with a minus sign, which is as wide as a plus sign.
function decimal(value, digits = 2) {
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

// The colour of a style sheet's variable, as canvases need it.
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function modelMark(model) {
  return make("span", { class: `mark m${model.place}`, "aria-hidden": "true" });
}
