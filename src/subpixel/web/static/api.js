// The server's API, which docs/web-api.md describes.

const TUS = { "Tus-Resumable": "1.0.0" };
const PART_BYTES = 4 * 1024 * 1024;
const MAX_WAIT_SECONDS = 10;
const MAX_ATTEMPTS = 12;

/** An answer of the server that refuses a request. */
export class Refusal extends Error {
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

async function request(address, options = {}) {
  const answer = await fetch(address, options);
  if (answer.ok) return answer;
  const text = await answer.text();
  let message = text;
  try {
    message = JSON.parse(text).error;
  } catch {
    // not JSON: show it as it is
  }
  throw new Refusal(answer.status, message || `the server answers ${answer.status}`, Number(answer.headers.get("Retry-After")));
}

export const server = async () => (await request("/api/server")).json();
export const cancel = (job) => request(`/api/jobs/${job.id}/cancel`, { method: "POST" });
export const retry = (job, options) =>
  request(`/api/jobs/${job.id}/retry`, { method: "POST", body: options && JSON.stringify({ options }) });
export const remove = (job) => request(`/api/jobs/${job.id}`, { method: "DELETE" });

/** Whether an address works; an image that is made at the first request tells why it cannot be. */
export async function check(address) {
  await (await request(address)).blob();
}

const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

/** Announce an upload; returns its job. Waits while the server has too much to do. */
export async function createUpload(file, options, signal) {
  const metadata = `filename ${base64(file.name)},options ${base64(JSON.stringify(options))}`;
  const headers = { ...TUS, "Upload-Length": String(file.size), "Upload-Metadata": metadata };
  return patiently(signal, async () => (await request("/api/uploads", { method: "POST", headers, signal })).json());
}

/** Send a file, or what is missing of it, and go on after a broken connection. */
export async function sendUpload(job, file, signal, onProgress) {
  const address = `/api/uploads/${job.id}`;
  let offset = job.upload.offset && (await patiently(signal, () => offsetOf(address, signal)));
  onProgress(offset / Math.max(file.size, 1));
  while (offset < file.size) {
    const before = offset;
    offset = await patiently(signal, async (attempt) => {
      if (attempt) offset = await offsetOf(address, signal);
      if (offset >= file.size) return offset;
      const headers = { ...TUS, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" };
      const body = file.slice(offset, offset + PART_BYTES);
      const answer = await request(address, { method: "PATCH", headers, body, signal });
      return Number(answer.headers.get("Upload-Offset"));
    });
    if (offset <= before) throw new Error("the upload does not get on; cancel it and try again");
    onProgress(offset / file.size);
  }
}

async function offsetOf(address, signal) {
  const answer = await request(address, { method: "HEAD", headers: TUS, signal });
  return Number(answer.headers.get("Upload-Offset"));
}

/** Try again after a broken connection, and when the server asks for it. */
async function patiently(signal, work) {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await work(attempt);
    } catch (error) {
      const busy = error instanceof Refusal && [409, 423, 429, 503].includes(error.status);
      const broken = error instanceof TypeError; // what fetch throws when there is no answer
      if (signal.aborted || !(busy || broken) || attempt >= MAX_ATTEMPTS) throw error;
      const seconds = Math.min(error.retryAfter || 0.25 * 2 ** attempt, MAX_WAIT_SECONDS);
      await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
      if (signal.aborted) throw error;
    }
  }
}

/** Follow all jobs. The browser connects again by itself. */
export function follow({ onJobs, onJob, onRemoved, onConnection }) {
  const source = new EventSource("/api/events");
  const listen = (name, call) => source.addEventListener(name, (event) => call(JSON.parse(event.data)));
  listen("jobs", ({ jobs }) => onJobs(jobs));
  listen("job", onJob);
  listen("removed", ({ id }) => onRemoved(id));
  source.addEventListener("open", () => onConnection(true));
  source.addEventListener("error", () => {
    onConnection(false);
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => follow({ onJobs, onJob, onRemoved, onConnection }), 2000);
    }
  });
  return source;
}
