// What a page of `compare` does. It contains `Stage`, from stage.js, before this.

const page = JSON.parse(document.getElementById("description").textContent);
const $ = (id) => document.getElementById(id);
const root = $("stage");
const divider = $("divider");
const stage = new Stage(root, $("pane-left"), $("pane-right"), divider);
const width = page.size[0] * page.scale;
const height = page.size[1] * page.scale;
const viewOf = new Map(page.views.map((view) => [view.id, view]));
const SIDES = ["left", "right"];

const state = {
  still: 0,
  left: page.left,
  right: page.right,
  request: 0,
};

// Images

const urls = new Map();

function urlOf(id) {
  if (!urls.has(id)) {
    const script = $(id);
    const base64 = script.textContent.slice(script.textContent.indexOf(",") + 1).trim();
    // A blob has no limit on its length, as data URIs have in some browsers.
    const bytes = Uint8Array.fromBase64
      ? Uint8Array.fromBase64(base64)
      : Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    urls.set(id, URL.createObjectURL(new Blob([bytes], { type: "image/png" })));
    script.remove(); // its text takes more memory than the blob
  }
  return urls.get(id);
}

async function decoded(id, name) {
  const image = new Image();
  image.src = urlOf(id);
  image.alt = name;
  image.draggable = false;
  await image.decode();
  return image;
}

async function show() {
  const request = ++state.request;
  const images = page.stills[state.still].images;
  const slow = setTimeout(() => busy("Decoding…"), 200);
  root.setAttribute("aria-busy", "true");
  try {
    const found = await Promise.all(
      SIDES.map((side) => decoded(images[state[side]], viewOf.get(state[side]).name)),
    );
    if (request !== state.request) return;
    stage.replace({ left: found[0], right: found[1] });
    busy("");
    listSpots();
    drawSpots();
  } catch (error) {
    if (request !== state.request) return;
    busy("This browser cannot decode the image. Make a page of a part: --crop X,Y,WIDTH,HEIGHT");
  } finally {
    clearTimeout(slow);
    if (request === state.request) root.setAttribute("aria-busy", "false");
  }
}

function busy(text) {
  $("busy").textContent = text;
  $("busy").hidden = !text;
}

// The stage

stage.addEventListener("layout", () => {
  const { left, top, right, bottom } = stage.visible;
  Object.assign($("board").style, {
    left: `${left}px`,
    width: `${right - left}px`,
    top: `${top}px`,
    height: `${bottom - top}px`,
  });
  const percent = Math.round(stage.split * 100);
  const [leftName, rightName] = SIDES.map((side) => viewOf.get(state[side]).name);
  divider.setAttribute("aria-valuetext", `${percent}% ${leftName}, ${100 - percent}% ${rightName}`);
  root.setAttribute("aria-label", `${page.file}: ${leftName} on the left, ${rightName} on the right`);
  const shown = stage.zoom * 100;
  $("zoom").value = `${shown >= 10 ? Math.round(shown) : shown.toFixed(1)}%`;
  $("fit").setAttribute("aria-pressed", stage.fitted);
  $("actual").setAttribute("aria-pressed", stage.zoom === 1);
});
stage.addEventListener("zoomed", announceZoom);
root.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() !== "x" || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  swap();
});
$("fit").addEventListener("click", () => (stage.fit(), announceZoom()));
$("actual").addEventListener("click", () => (stage.zoomTo(1), announceZoom()));
$("in").addEventListener("click", () => (stage.zoomStep(1), announceZoom()));
$("out").addEventListener("click", () => (stage.zoomStep(-1), announceZoom()));
$("swap").addEventListener("click", swap);

function announceZoom() {
  announce(stage.fitted ? "Whole image" : `Zoom ${$("zoom").value}`);
}

function announce(text) {
  $("status").textContent = text;
}

// What is on the left and on the right

function chooseSides() {
  for (const side of SIDES) {
    const select = $(side);
    select.replaceChildren(
      ...page.views.map((view) => new Option(view.name, view.id, false, view.id === state[side])),
    );
    select.value = state[side];
    select.onchange = () => {
      state[side] = select.value;
      show();
    };
  }
}

function swap() {
  [state.left, state.right] = [state.right, state.left];
  SIDES.forEach((side) => ($(side).value = state[side]));
  announce(`${viewOf.get(state.left).name} on the left, ${viewOf.get(state.right).name} on the right`);
  show();
}

// Frames and spots

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function listFrames() {
  if (page.stills.length < 2) return;
  $("frames-section").hidden = false;
  document.body.classList.add("with-frames"); // the stage leaves room for them
  const items = page.stills.map((still, index) => {
    const thumbnail = element("img", { alt: "", src: urlOf(still.images.original) });
    const button = element("button", { type: "button" }, thumbnail, element("span", {}, still.label));
    button.setAttribute("aria-label", `Frame ${index + 1} of ${page.stills.length}, at ${still.label}`);
    button.addEventListener("click", () => chooseFrame(index));
    return element("li", {}, button);
  });
  $("frames").replaceChildren(...items);
}

function chooseFrame(index) {
  state.still = index;
  [...$("frames").querySelectorAll("button")].forEach((button, number) =>
    button.setAttribute("aria-pressed", number === index),
  );
  listScores();
  show();
  if (page.stills.length > 1) announce(`Frame ${index + 1} of ${page.stills.length}`);
}

/** Where the two sides differ; for original pixels, where bicubic does, which has the same detail. */
function shownSpots() {
  const ids = SIDES.map((side) => (state[side] === "original" ? "method-0" : state[side]));
  return page.stills[state.still].spots[ids.sort().join(" ")] ?? [];
}

function listSpots() {
  const spots = shownSpots();
  const [leftName, rightName] = SIDES.map((side) => viewOf.get(state[side]).name);
  $("spots-text").textContent = spots.length
    ? `Squares with the largest mean difference between ${leftName} and ${rightName}, in steps of 255. Select one to see it above.`
    : `Nowhere: ${leftName} and ${rightName} are nearly the same everywhere. Choose other sides above.`;
  const items = spots.map(([x, y, sideX, sideY, difference], index) => {
    const canvases = SIDES.map(() => element("canvas", { width: sideX, height: sideY }));
    const caption = element("span", { className: "caption" });
    caption.append(element("span", {}, `Spot ${index + 1}`), element("span", {}, difference.toFixed(1)));
    const pair = element("span", { className: "pair" }, ...canvases);
    const button = element("button", { type: "button" }, pair, caption);
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `Spot ${index + 1} at ${x}, ${y}: mean difference ${difference.toFixed(1)}`);
    button.addEventListener("click", () => chooseSpot(index));
    return element("li", {}, button);
  });
  $("spots").replaceChildren(...items);
}

function drawSpots() {
  const images = SIDES.map((side) => $(`pane-${side}`).firstElementChild);
  const spots = shownSpots();
  $("spots").querySelectorAll(".pair").forEach((pair, index) => {
    const [x, y, sideX, sideY] = spots[index];
    pair.querySelectorAll("canvas").forEach((canvas, side) => {
      const enlarged = width / images[side].naturalWidth;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, sideX, sideY);
      const part = [x, y, sideX, sideY].map((length) => length / enlarged);
      context.drawImage(images[side], ...part, 0, 0, sideX, sideY);
    });
  });
}

function chooseSpot(index) {
  const [x, y, sideX, sideY] = shownSpots()[index];
  stage.showPart(x, y, sideX, sideY);
  [...$("spots").querySelectorAll("button")].forEach((button, number) =>
    button.setAttribute("aria-pressed", number === index),
  );
  root.scrollIntoView({ block: "nearest" });
  announce(`Spot ${index + 1}, zoom ${$("zoom").value}`);
}

// Values and facts

function listScores() {
  const methods = page.views.filter((view) => view.id in page.stills[state.still].scores);
  if (!methods.length) return;
  const several = page.stills.length > 1;
  const meanOf = (id) => {
    const values = page.stills.map((still) => still.scores[id].psnr_db);
    return values.includes(null) ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
  };
  const rows = methods.map((view) => {
    const score = page.stills[state.still].scores[view.id];
    return { name: view.name, ...score, mean: meanOf(view.id) };
  });
  const columns = [
    ["PSNR (dB)", "psnr_db", 2],
    ["SSIM", "ssim", 4],
    ...(several ? [["mean PSNR of all frames (dB)", "mean", 2]] : []),
  ];
  const cell = (row, [, key, digits]) => {
    const best = Math.max(...rows.map((other) => other[key] ?? -Infinity));
    const text = row[key] === null ? (row.equal ? "identical" : "–") : row[key].toFixed(digits);
    return element("td", { className: row[key] !== null && row[key] === best ? "best" : "" }, text);
  };
  const heading = (text) => element("th", { scope: "col" }, text);
  const head = element("tr", {}, heading("result"), ...columns.map(([text]) => heading(text)));
  const body = rows.map((row) =>
    element("tr", {}, element("th", { scope: "row" }, row.name), ...columns.map((column) => cell(row, column))),
  );
  $("scores").replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
  $("protocol").textContent = page.protocol;
  $("scores-section").hidden = false;
}

function listFacts() {
  const [x, y] = page.crop ?? [0, 0];
  const sizes = `${page.size[0]} × ${page.size[1]} pixels`;
  $("file").textContent = page.file;
  $("sizes").textContent = `${sizes}, ${page.scale} times as large: ${width} × ${height}`;
  const facts = [
    ["input", `${page.file}, ${page.crop ? `a part of ${sizes} at ${x}, ${y}` : sizes}`],
    ...page.views.map((view) => [view.name, view.detail]),
    ["images", `PNG, ${page.bits} bits per sample, without loss; 100% is one of its pixels on one of the screen`],
    ["written by", `Subpixel ${page.version}`],
  ];
  $("about").replaceChildren(
    ...facts.flatMap(([term, text]) => [element("dt", {}, term), element("dd", {}, text)]),
  );
  $("warnings").replaceChildren(...page.warnings.map((text) => element("li", {}, text)));
  $("warnings").hidden = !page.warnings.length;
}

document.body.classList.toggle("transparent", page.transparent);
chooseSides();
listFacts();
listFrames();
stage.setSize(width, height);
chooseFrame(0);
