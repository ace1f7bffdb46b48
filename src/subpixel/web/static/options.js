// The form of options for new files; what was chosen is kept for the next visit.

import { $, assign, element } from "./dom.js";
import { formatName } from "./format.js";

const KEY = "subpixel-options";
const FIELDS = ["width", "codec", "container", "model", "format", "quality", "crf", "fit", "drop-unsupported"];
/** Containers for the codecs of the form that not every container holds. */
const HOLDERS = { libx265: ["mp4", "mkv", "mov"], libsvtav1: ["mp4", "mkv", "webm"], ffv1: ["mkv"] };
const CONTAINERS = { mp4: "mp4", m4v: "mp4", mov: "mov", webm: "webm" };
const form = $("options");
let codecs = new Map();

/** Fill in what this server offers, and what was chosen at the last visit. */
export function prepare(server) {
  for (const name of server.models) $("model").append(element("option", { value: name }, name));
  for (const name of server.formats) $("format").append(element("option", { value: name }, formatName(name)));
  codecs = new Map(server.codecs.map((codec) => [codec.name, codec]));
  for (const option of [...$("codec").options]) {
    if (option.value && !codecs.has(option.value)) option.remove();
  }
  for (const option of [...$("container").options]) {
    if (option.value && !server.containers.includes(option.value)) option.remove();
  }
  restore();
  showDependent();
}

/** Return the options for a file as the API takes them; throws an Error that says what is wrong. */
export function chosen(file) {
  if (!form.reportValidity()) {
    $("more").open ||= $("more").querySelector(":invalid") !== null;
    throw new Error("Correct the options first.");
  }
  const options = {};
  const size = form.elements.size.value;
  if (size === "width") options.width = Number($("width").value);
  else if (size.startsWith("x")) options.scale = Number(size.slice(1));
  else options.size = size;
  if ($("fit").value && !options.scale) options.fit = $("fit").value;
  if ($("model").value) options.model = $("model").value;
  else options.content = form.elements.content.value;
  const image = {};
  if ($("format").value) image.format = $("format").value;
  if ($("quality").value) image.quality = Number($("quality").value);
  const video = videoType(file.name);
  const container = video.container ?? containerOf(file.name);
  const crf = rateFactor(video.codec ?? (container === "webm" ? "libsvtav1" : "libx264"));
  if (crf !== undefined) video.crf = crf;
  if ($("drop-unsupported").checked) video.drop_unsupported = true;
  if (Object.keys(image).length) options.image = image;
  if (Object.keys(video).length) options.video = video;
  return options;
}

/** The container of the result if none is chosen: the original's, or Matroska. */
const containerOf = (name) => CONTAINERS[name.toLowerCase().split(".").pop()] ?? "mkv";

const holds = (container, codec) => !HOLDERS[codec] || HOLDERS[codec].includes(container);

/** Codec and container for a file; Matroska where the original's container cannot hold the codec. */
function videoType(name) {
  const video = {};
  const codec = $("codec").value;
  if (codec) video.codec = codec;
  if ($("container").value) video.container = $("container").value;
  else if (!holds(containerOf(name), codec)) video.container = "mkv";
  return video;
}

/** The codec's rate factor for the quality that was chosen; smaller is better. */
function rateFactor(name) {
  const crf = codecs.get(name)?.crf;
  if (!crf || !$("crf").value) return undefined;
  const step = (crf.worst - crf.best) / 12;
  return Math.round(crf.default + ($("crf").value === "best" ? -step : step));
}

function restore() {
  let stored = {};
  try {
    stored = JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return; // not ours, or no storage
  }
  for (const name of ["size", "content"]) {
    const found = [...form.elements[name]].find((radio) => radio.value === stored[name]);
    if (found) found.checked = true;
  }
  for (const id of FIELDS) {
    if (!(id in stored)) continue;
    if ($(id).type === "checkbox") $(id).checked = stored[id] === true;
    else $(id).value = stored[id];
    if ($(id).tagName === "SELECT" && $(id).selectedIndex < 0) $(id).selectedIndex = 0;
  }
}

function store() {
  const values = { size: form.elements.size.value, content: form.elements.content.value };
  for (const id of FIELDS) values[id] = $(id).type === "checkbox" ? $(id).checked : $(id).value;
  try {
    localStorage.setItem(KEY, JSON.stringify(values));
  } catch {
    // private windows may have no storage
  }
}

/** Show what follows from other choices: the width, the containers that hold a codec, and what to know of them. */
function showDependent() {
  const asks = form.elements.size.value === "width";
  $("width-label").hidden = !asks;
  $("width").disabled = !asks;
  $("fit").disabled = !["1080p", "4k"].includes(form.elements.size.value);
  const codec = $("codec").value;
  const options = [...$("container").options];
  for (const option of options) option.disabled = Boolean(option.value) && !holds(option.value, codec);
  if (options[$("container").selectedIndex]?.disabled) $("container").value = "";
  const container = $("container").value;
  assign($("codec").options[0], { text: container === "webm" ? "AV1: what WebM holds" : "H.264: plays everywhere" });
  const notes = ["Sound and subtitles are copied as they are."];
  if (container === "webm") {
    notes.push("WebM holds no AAC sound, which most videos have: choose MKV to keep it.");
  } else if (!container && HOLDERS[codec]) {
    notes.push("A video whose file type cannot hold this encoding becomes MKV.");
  }
  assign($("video-note"), { textContent: notes.join(" ") });
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", () => {
  showDependent();
  store();
});
