// Start the page: options, files, and the list that follows the server.

import * as api from "./api.js";
import { $, announce, errorText, showProblem } from "./dom.js";
import { collect } from "./drop.js";
import { bytes, duration, formatName } from "./format.js";
import { addFile, onOpen, removeJob, setJob, setJobs } from "./jobs.js";
import { chosen, prepare } from "./options.js";
import { closeRemoved, open, update } from "./viewer.js";

const UPLOADS_AT_ONCE = 2;
const queue = [];
let sending = 0;

function add(files) {
  if (!files.length) return;
  try {
    queue.push(...files.map((file) => [file, chosen(file)]));
  } catch (error) {
    showProblem(error);
    return;
  }
  announce(files.length === 1 ? `${files[0].name} is added` : `${files.length} files are added`);
  send();
}

async function send() {
  while (sending < UPLOADS_AT_ONCE && queue.length) {
    sending += 1;
    const [file, options] = queue.shift();
    addFile(file, options)
      .catch((error) => showProblem(new Error(`${file.name}: ${errorText(error)}`)))
      .finally(() => {
        sending -= 1;
        send();
      });
  }
}

async function showServer() {
  const server = await api.server();
  prepare(server);
  $("version").textContent = `Subpixel ${server.version}`;
  $("keep").textContent = `Files are removed ${duration(server.limits.keep_seconds)} after they are ready.`;
  $("free").textContent = `${bytes(server.free_bytes)} are free.`;
  const formats = server.formats.map(formatName).join(", ");
  $("formats").textContent = `${formats}, and nearly all videos. Up to ${bytes(server.limits.upload_bytes)} each.`;
}

addEventListener("beforeunload", (event) => {
  if (sending || queue.length) event.preventDefault(); // the browser asks whether uploads may stop
});

onOpen(open);
collect(add);
api.follow({
  onJobs: setJobs,
  onJob: (job) => (setJob(job), update(job)),
  onRemoved: (id) => (removeJob(id), closeRemoved(id)),
  onConnection: (connected) => ($("offline").hidden = connected),
});
showServer().catch(showProblem);
