// Files that are dropped, pasted or chosen, and those in folders.

import { $ } from "./dom.js";

/** Call ``add`` with lists of files. */
export function collect(add) {
  $("choose-files").addEventListener("click", () => $("files").click());
  $("choose-folder").addEventListener("click", () => $("folder").click());
  for (const id of ["files", "folder"]) {
    $(id).addEventListener("change", () => {
      add(visible([...$(id).files]));
      $(id).value = ""; // so that the same file can be chosen again
    });
  }
  let depth = 0;
  const inside = (change) => {
    depth = Math.max(0, depth + change);
    $("drop").classList.toggle("over", depth > 0);
  };
  addEventListener("dragenter", (event) => (event.preventDefault(), inside(1)));
  addEventListener("dragleave", () => inside(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    inside(-depth);
    add(await dropped(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) add(files.map(named));
  });
}

/** Clipboards call every image image.png. */
function named(file) {
  if (file.name && file.name !== "image.png") return file;
  const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  return new File([file], `pasted-${time}.png`, { type: file.type });
}

const visible = (files) => files.filter((file) => !file.name.startsWith("."));

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return visible([...transfer.files]);
  return visible((await Promise.all(entries.map(filesOf))).flat());
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    // A reader gives at most 100 entries at a time.
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) return files;
    for (const each of entries) files.push(...(await filesOf(each)));
  }
}
