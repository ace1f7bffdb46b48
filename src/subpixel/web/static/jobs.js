// The list of files: a row for each job.

import * as api from "./api.js";
import { $, announce, assign, element, errorText, showProblem } from "./dom.js";
import { bytes, duration, percent, size } from "./format.js";

const rows = new Map();
const uploads = new Map();
/** Uploads that this page is sending, by the id of their job. */

const FINISHED = ["done", "failed", "cancelled"];
const ACTIONS = ["compare", "download", "cancel", "retry", "drop", "remove"];
const STALLED_MS = 5000;
/** After so long without a byte, an upload that another page sends has broken off. */

const ICONS = { image: "M5 19h14V5H5zm0-4 4-4 4 4 2-2 4 4", video: "M5 5h14v14H5zm5 4v6l5-3z", null: "M7 4h7l4 4v12H7zm7 0v4h4" };
let open = () => {};

/** Tell the list what shows a result. */
export function onOpen(call) {
  open = call;
}

/** Show all jobs, and forget those that are gone. */
export function setJobs(jobs) {
  const ids = new Set(jobs.map((job) => job.id));
  for (const id of rows.keys()) if (!ids.has(id)) removeJob(id);
  for (const job of jobs) setJob(job);
}

export function setJob(job) {
  let row = rows.get(job.id);
  if (!row) {
    row = new Row(job);
    rows.set(job.id, row);
    $("jobs").prepend(row.item); // the newest first
  }
  row.update(job);
  updateHeading();
}

export function removeJob(id) {
  const row = rows.get(id);
  if (!row) return;
  const next = row.item.nextElementSibling ?? row.item.previousElementSibling;
  if (row.item.contains(document.activeElement)) (next?.querySelector("button, a") ?? $("choose-files")).focus();
  row.item.remove();
  rows.delete(id);
  uploads.get(id)?.abort();
  updateHeading();
}

/** Upload a file as a new job, or go on with an upload of it that broke off. */
export async function addFile(file, options) {
  const pending = [...rows.values()].find(({ job }) => waitsForFile(job, file));
  const controller = new AbortController();
  let job = pending?.job;
  try {
    job ??= await api.createUpload(file, options, controller.signal);
    uploads.set(job.id, controller);
    setJob(job);
    await api.sendUpload(job, file, controller.signal, (fraction) => rows.get(job.id)?.showUpload(fraction));
  } catch (error) {
    if (controller.signal.aborted) return;
    throw job ? new Error(`${errorText(error)} Choose the file again, and the upload goes on.`) : error;
  } finally {
    if (job) {
      uploads.delete(job.id);
      const row = rows.get(job.id);
      if (row) row.update(row.job);
    }
  }
}

function waitsForFile(job, file) {
  const same = job.name === file.name && job.upload?.length === file.size;
  return job.state === "uploading" && same && !uploads.has(job.id);
}

function updateHeading() {
  const jobs = [...rows.values()].map((row) => row.job);
  $("none").hidden = jobs.length > 0;
  $("all").hidden = jobs.filter((job) => job.state === "done").length < 2;
  $("clear").hidden = !jobs.some((job) => FINISHED.includes(job.state));
  const waiting = jobs.filter((job) => !FINISHED.includes(job.state)).length;
  document.title = waiting ? `(${waiting}) Subpixel` : "Subpixel";
}

$("clear").addEventListener("click", async () => {
  for (const { job } of [...rows.values()]) if (FINISHED.includes(job.state)) await attempt(api.remove(job));
  announce("Finished files are removed");
});

async function attempt(promise) {
  try {
    await promise;
  } catch (error) {
    showProblem(error);
  }
}

class Row {
  constructor(job) {
    this.job = job;
    this.thumbnail = element("img", { alt: "", width: 72, height: 72, loading: "lazy", hidden: true });
    this.icon = icon();
    this.picture = element("button", { type: "button", className: "thumbnail", disabled: true }, this.icon, this.thumbnail);
    this.name = element("h3", {}, job.name);
    this.facts = element("p", { className: "quiet" });
    this.bar = element("progress", { max: 1, "aria-label": `Progress of ${job.name}` });
    this.state = element("p", { className: "state" });
    this.warnings = element("ul", { className: "warnings", hidden: true });
    this.actions = element("p", { className: "buttons" });
    const text = element("div", { className: "text" }, this.name, this.facts, this.bar, this.state, this.warnings);
    this.item = element("li", { className: "job card" }, this.picture, text, this.actions);
    this.picture.addEventListener("click", () => open(this.job));
    this.buttons = new Map();
    this.arrived = performance.now();
  }

  update(job) {
    const before = this.job.state;
    if (job.upload?.offset !== this.job.upload?.offset) this.arrived = performance.now();
    this.job = job;
    this.showThumbnail();
    this.showFacts();
    this.showState();
    this.showActions();
    if (before !== job.state && FINISHED.includes(job.state)) {
      announce(`${job.name}: ${job.state === "done" ? "ready" : job.state}`);
    }
  }

  showThumbnail() {
    const address = this.job.links.thumbnail;
    if (address && this.thumbnail.getAttribute("src") !== address) this.thumbnail.src = address;
    assign(this.thumbnail, { hidden: !address });
    this.icon.toggleAttribute("hidden", Boolean(address));
    this.icon.firstElementChild.setAttribute("d", ICONS[this.job.kind]);
  }

  showFacts() {
    const { source, target, result } = this.job;
    const parts = [];
    if (source) {
      const to = result ?? target;
      parts.push(to ? `${size(source)} → ${size(to)}` : size(source));
      if (source.seconds) parts.push(duration(source.seconds));
      parts.push(result ? `${bytes(source.bytes)} → ${bytes(result.bytes)}` : bytes(source.bytes));
    }
    assign(this.facts, { textContent: parts.join(" · ") });
  }

  showState() {
    const { state, progress, note, upload, result } = this.job;
    this.item.dataset.state = state;
    assign(this.bar, { hidden: !["uploading", "running"].includes(state) });
    let text = { waiting: "Waiting", cancelled: "Cancelled", done: "Ready", failed: cause(this.job) }[state];
    if (state === "uploading") {
      this.bar.value = upload.length ? upload.offset / upload.length : 0;
      text = this.uploadText();
    } else if (state === "running") {
      this.showProgress(progress);
      text = progressText(progress);
    }
    if (note && state === "waiting") text = `Waiting: ${note}`;
    assign(this.state, { textContent: text });
    const warnings = result?.warnings ?? [];
    if (this.warnings.childElementCount !== warnings.length) {
      this.warnings.replaceChildren(...warnings.map((warning) => element("li", {}, warning)));
    }
    assign(this.warnings, { hidden: !warnings.length });
  }

  showProgress(progress) {
    if (progress?.fraction) this.bar.value = progress.fraction;
    else this.bar.removeAttribute("value"); // not known yet: the bar moves to and fro
  }

  showUpload(fraction) {
    if (this.job.state !== "uploading") return;
    this.bar.value = fraction;
    assign(this.state, { textContent: `Uploading, ${percent(fraction)}` });
  }

  /** What becomes of an upload, which this page sends, or another one. */
  uploadText() {
    clearTimeout(this.timer);
    const rest = STALLED_MS - (performance.now() - this.arrived);
    if (!uploads.has(this.job.id)) {
      if (rest <= 0) return "The upload broke off. Choose the file again, and it goes on.";
      this.timer = setTimeout(() => this.showState(), rest + 50);
    }
    return `Uploading, ${percent(this.bar.value)}`;
  }

  showActions() {
    const { state, links, kind, name } = this.job;
    const focused = this.actions.contains(document.activeElement) ? document.activeElement : null;
    const canOpen = kind === "video" ? Boolean(links.preview_result) : state === "done" && Boolean(links.view);
    assign(this.picture, { disabled: !canOpen });
    this.picture.setAttribute("aria-label", `Compare before and after: ${name}`);
    this.action("compare", canOpen, kind === "video" && state !== "done" ? "Preview" : "Compare", () => open(this.job));
    this.action("download", state === "done", "Download");
    this.action("cancel", !FINISHED.includes(state), "Cancel", () => this.cancel());
    const complete = this.job.upload.length > 0 && this.job.upload.offset >= this.job.upload.length;
    this.action("retry", complete && ["failed", "cancelled"].includes(state), "Try again", () => attempt(api.retry(this.job)));
    const unsupported = state === "failed" && /drop_unsupported/.test(this.job.error);
    this.action("drop", unsupported, "Leave it out", () => attempt(api.retry(this.job, withoutUnsupported(this.job.options))));
    this.action("remove", FINISHED.includes(state), "Remove", () => attempt(api.remove(this.job)));
    // The focus does not get lost with the button that had it.
    if (focused?.hidden) [...this.actions.children].find((button) => !button.hidden)?.focus();
  }

  /** Show or hide a button; it stays the same element, so that it keeps the focus. */
  action(key, visible, text, call) {
    let button = this.buttons.get(key);
    if (!button && !visible) return;
    if (!button) {
      button = call
        ? element("button", { type: "button" })
        : element("a", { className: "button main", href: this.job.links.result, download: "" });
      if (call) button.addEventListener("click", call);
      this.buttons.set(key, button);
      this.actions.append(...ACTIONS.map((each) => this.buttons.get(each)).filter((each) => each && each !== document.activeElement));
    }
    assign(button, { hidden: !visible, textContent: text });
    button.setAttribute("aria-label", `${text}: ${this.job.name}`);
  }

  cancel() {
    uploads.get(this.job.id)?.abort();
    attempt(this.job.state === "uploading" ? api.remove(this.job) : api.cancel(this.job));
  }
}

function icon() {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("aria-hidden", "true");
  made.append(document.createElementNS("http://www.w3.org/2000/svg", "path"));
  return made;
}

/** Why a job failed, with the cure in words of this page instead of those of the command. */
function cause({ error, name }) {
  if (!error) return "Failed";
  const text = error.replaceAll(`${name}: `, "").replace(/,? or pass --drop-unsupported .*$/, ", or leave it out");
  return text[0].toUpperCase() + text.slice(1);
}

const withoutUnsupported = (options) => ({ ...options, video: { ...options.video, drop_unsupported: true } });

function progressText(progress) {
  if (!progress) return "Starting";
  if (progress.stage === "prepare") return "Preparing";
  if (progress.stage === "preview") return "Making a preview";
  const parts = [percent(progress.fraction)];
  if (progress.frames_per_second) parts.push(`${progress.frames_per_second.toFixed(1)} frames a second`);
  if (progress.seconds_left != null) parts.push(`${duration(progress.seconds_left)} left`);
  return parts.join(", ");
}
