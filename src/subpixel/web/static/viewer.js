// A result beside its original, in a dialog.

import { check } from "./api.js";
import { $, announce, element, errorText } from "./dom.js";
import { size } from "./format.js";
import { Stage } from "./stage.js";

const NAMES = { original: "original pixels", bicubic: "bicubic" };
const dialog = $("viewer");
const stage = new Stage($("stage"), $("pane-left"), $("pane-right"), $("divider"));
let job = null;
let request = 0;
let videos = [];

/** Show a job: an image with its result, or the preview of a video. */
export async function open(opened) {
  job = opened;
  const isVideo = job.kind === "video";
  $("viewer-title").textContent = job.name;
  showDownload();
  $("video-tools").hidden = !isVideo;
  $("left").parentElement.hidden = isVideo;
  $("viewer-text").textContent = "";
  for (const option of $("left").options) option.disabled = !isVideo && !job.links[option.value];
  if ($("left").selectedOptions[0]?.disabled) $("left").value = "original";
  if (!dialog.open) dialog.showModal();
  $("stage").focus();
  if (isVideo) await showVideo();
  else await showImage();
}

/** Take over what changes about the job that is shown. */
export function update(changed) {
  if (!dialog.open || changed.id !== job.id) return;
  job = changed;
  showDownload();
}

/** Close the viewer if the job that it shows was removed. */
export function closeRemoved(id) {
  if (dialog.open && id === job.id) dialog.close();
}

function showDownload() {
  $("viewer-download").hidden = job.state !== "done";
  $("viewer-download").href = job.links.result ?? "";
}

async function showImage() {
  await load(async (isCurrent) => {
    const right = await image(job.links.view);
    if (!isCurrent()) return;
    // The result shows first. The left side may still have to be made; until then the thumbnail is there.
    const coarse = element("img", { src: job.links.thumbnail ?? "", alt: "", draggable: false });
    await coarse.decode().catch(() => {});
    if (!isCurrent()) return;
    stage.setSize(right.naturalWidth, right.naturalHeight);
    stage.replace({ left: coarse, right });
    name();
    const fine = await image(job.links[$("left").value]);
    if (isCurrent()) stage.replace({ left: fine });
  });
}

async function showVideo() {
  const made = [job.links.preview_original, job.links.preview_result].map((address) =>
    element("video", { src: address, muted: true, loop: true, playsInline: true, preload: "auto" }),
  );
  made[0].dataset.smooth = "yes"; // as players show it
  const loaded = await load(() => Promise.all(made.map((video) => once(video, "loadeddata"))));
  if (!loaded) return;
  videos = made;
  const [left, right] = made;
  stage.setSize(right.videoWidth, right.videoHeight);
  stage.replace({ left, right });
  $("seek").max = right.duration;
  name();
  play();
}

/** Wait for something to show, and tell what is wrong with it; null if another view was opened since. */
async function load(work) {
  const own = ++request;
  const slow = setTimeout(() => busy("Loading…"), 200);
  $("stage").setAttribute("aria-busy", "true");
  try {
    const result = await work(() => own === request);
    if (own !== request) return null;
    busy("");
    return result;
  } catch (error) {
    if (own === request) busy(errorText(error));
    return null;
  } finally {
    clearTimeout(slow);
    if (own === request) queueMicrotask(() => $("stage").setAttribute("aria-busy", "false"));
  }
}

async function image(address) {
  if (!address) throw new Error("It is too large for a browser. Download the result.");
  const made = element("img", { src: address, alt: "", draggable: false });
  try {
    await made.decode();
  } catch {
    await check(address); // which says why the server does not give it
    throw new Error("This browser cannot show it. Download the result.");
  }
  return made;
}

function once(target, name) {
  return new Promise((resolve, reject) => {
    target.addEventListener(name, resolve, { once: true });
    target.addEventListener("error", () => reject(new Error("This browser cannot play the preview. Download the result.")), {
      once: true,
    });
  });
}

function busy(text) {
  $("busy").textContent = text;
  $("busy").hidden = !text;
}

function name() {
  $("name-left").textContent = job.kind === "video" ? "original" : NAMES[$("left").value];
  $("name-right").textContent = "result";
  const shown = job.result ?? job.target;
  if (job.source && shown) {
    const parts = [`${size(job.source)} → ${size(shown)}`];
    if (job.kind === "video") parts.push("the first seconds");
    if (job.result?.model) parts.push(`model ${job.result.model}`);
    $("viewer-text").textContent = parts.join(" · ");
  }
}

// Videos run in step: the result leads, the original follows.

function play() {
  for (const video of videos) video.play().catch(() => {});
  showPlaying(true);
}

function pause() {
  for (const video of videos) video.pause();
  align();
  showPlaying(false);
}

function showPlaying(playing) {
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  $("play").querySelector("path").setAttribute("d", playing ? "M6 4v12M14 4v12" : "M6 4v12l10-6z");
}

function align() {
  const [original, result] = videos;
  if (original && Math.abs(original.currentTime - result.currentTime) > 0.04) original.currentTime = result.currentTime;
}

function tick() {
  if (!dialog.open) return;
  const [, result] = videos;
  if (result) {
    if (!result.paused) align();
    if (document.activeElement !== $("seek")) $("seek").value = result.currentTime;
  }
  setTimeout(tick, 100);
}

$("play").addEventListener("click", () => (videos[1]?.paused ? play() : pause()));
$("seek").addEventListener("input", () => {
  pause();
  for (const video of videos) video.currentTime = Number($("seek").value);
});
$("left").addEventListener("change", async () => {
  const left = await load(() => image(job.links[$("left").value]));
  if (!left) return;
  stage.replace({ left });
  name();
  announce(`${NAMES[$("left").value]} on the left`);
});
$("fit-view").addEventListener("click", () => stage.fit());
$("actual").addEventListener("click", () => stage.zoomTo(1));
$("zoom-in").addEventListener("click", () => stage.zoomStep(1));
$("zoom-out").addEventListener("click", () => stage.zoomStep(-1));
stage.addEventListener("layout", () => {
  $("divider").setAttribute("aria-valuetext", `${Math.round(stage.split * 100)}% before`);
  $("zoom").value = `${stage.zoom < 1 ? (stage.zoom * 100).toFixed(0) : Math.round(stage.zoom * 100)}%`;
  $("fit-view").setAttribute("aria-pressed", stage.fitted);
  $("actual").setAttribute("aria-pressed", stage.zoom === 1);
});
$("viewer-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("toggle", () => dialog.open && tick());
dialog.addEventListener("close", () => {
  request += 1;
  videos = [];
  busy("");
  stage.clear();
});
