// Two views of the same image on top of each other, with a divider, zoom and pan. Pages of `compare` contain this
// file, and the page of `serve` imports it.
//
// Lengths are in pixels of the result unless a name says otherwise; zoom is in screen pixels for each of them.

const ZOOMS = [1 / 16, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
const MAX_ZOOM = 64;
const CHECKER_PX = 16;
const ratio = () => window.devicePixelRatio || 1;

export class Stage extends EventTarget {
  #root;
  #panes;
  #divider;
  #pointers = new Map();
  #drag = "";
  #width = 1;
  #height = 1;
  #x = 0.5; // what is at the middle of the stage
  #y = 0.5;
  #fitted = true;

  /** The elements: the stage, its two panes, and the divider. */
  constructor(root, left, right, divider) {
    super();
    this.#root = root;
    this.#panes = { left, right };
    this.#divider = divider;
    this.zoom = 1;
    this.split = 0.5;
    this.#listen();
    new ResizeObserver(() => (this.#fitted ? this.fit() : this.layout())).observe(root);
  }

  /** Set the size of what is shown, and show all of it. */
  setSize(width, height) {
    [this.#width, this.#height, this.#x, this.#y] = [width, height, width / 2, height / 2];
    this.split = 0.5;
    this.#root.style.setProperty("--aspect", `${width} / ${height}`);
    this.fit();
  }

  /** Replace one side or both, by images or videos, and keep the place. */
  replace(sides) {
    for (const [side, element] of Object.entries(sides)) this.#panes[side].replaceChildren(element);
    this.layout();
  }

  /** Show a part so large that its pixels are well visible, with the divider in its middle. */
  showPart(x, y, width, height) {
    const side = Math.min(this.#root.clientWidth, this.#root.clientHeight);
    const fitting = (0.8 * ratio() * side) / Math.max(width, height);
    this.zoom = Math.min(Math.max(Math.floor(fitting), 1), MAX_ZOOM);
    [this.#x, this.#y] = [x + width / 2, y + height / 2];
    this.split = 0.5;
    this.#fitted = false;
    this.layout();
  }

  clear() {
    for (const pane of Object.values(this.#panes)) pane.replaceChildren();
  }

  fit() {
    this.#fitted = true;
    this.zoom = this.#fitZoom();
    this.layout();
  }

  get fitted() {
    return this.#fitted;
  }

  /** Zoom so that the point at (atX, atY) on the stage, in CSS pixels, stays where it is. */
  zoomTo(zoom, atX = this.#root.clientWidth / 2, atY = this.#root.clientHeight / 2) {
    const before = this.zoom;
    this.zoom = Math.min(Math.max(zoom, Math.min(this.#fitZoom(), 1)), MAX_ZOOM);
    const moved = ratio() / before - ratio() / this.zoom;
    this.#x += (atX - this.#root.clientWidth / 2) * moved;
    this.#y += (atY - this.#root.clientHeight / 2) * moved;
    this.#fitted = false;
    this.layout();
  }

  zoomStep(direction) {
    const slack = 1 + 1e-6 * direction;
    const next =
      direction > 0
        ? ZOOMS.find((zoom) => zoom > this.zoom * slack)
        : ZOOMS.findLast((zoom) => zoom < this.zoom * slack);
    this.zoomTo(next ?? (direction > 0 ? MAX_ZOOM : 0));
  }

  pan(cssX, cssY) {
    this.#x -= (cssX * ratio()) / this.zoom;
    this.#y -= (cssY * ratio()) / this.zoom;
    this.layout();
  }

  moveDivider(split) {
    this.split = Math.min(Math.max(split, 0), 1);
    this.layout();
  }

  layout() {
    this.#x = this.#clamped(this.#x, this.#width, this.#root.clientWidth);
    this.#y = this.#clamped(this.#y, this.#height, this.#root.clientHeight);
    const { left, top, css } = this.#position();
    for (const pane of Object.values(this.#panes)) {
      const content = pane.firstElementChild;
      if (!content) continue;
      const own = content.naturalWidth || content.videoWidth || this.#width;
      const factor = this.#width / own;
      const square = CHECKER_PX / (css * factor); // the same on both sides, at every zoom
      content.style.backgroundSize = `${square}px ${square}px`;
      content.style.transform = `translate(${left}px, ${top}px) scale(${css * factor})`;
      content.style.imageRendering = this.zoom * factor >= 1 && content.dataset.smooth !== "yes" ? "pixelated" : "auto";
    }
    const { left: first, right: last } = this.visible;
    const at = Math.round((first + this.split * (last - first)) * ratio()) / ratio();
    this.#panes.left.style.clipPath = `inset(0 ${this.#root.clientWidth - at}px 0 0)`;
    this.#panes.right.style.clipPath = `inset(0 0 0 ${at}px)`;
    this.#divider.style.left = `${at}px`;
    this.#divider.setAttribute("aria-valuenow", Math.round(this.split * 100));
    this.#root.classList.toggle("fits", this.#fits());
    this.dispatchEvent(new Event("layout"));
  }

  /** The part of the stage that the image covers, in CSS pixels. */
  get visible() {
    const { left, top, css } = this.#position();
    return {
      left: Math.max(left, 0),
      top: Math.max(top, 0),
      right: Math.min(left + this.#width * css, this.#root.clientWidth),
      bottom: Math.min(top + this.#height * css, this.#root.clientHeight),
    };
  }

  #fitZoom() {
    const zoom = Math.min(
      (this.#root.clientWidth * ratio()) / this.#width,
      (this.#root.clientHeight * ratio()) / this.#height,
    );
    return zoom > 1 ? Math.min(Math.floor(zoom), MAX_ZOOM) : zoom || 1; // whole numbers keep pixels square
  }

  #fits() {
    const slack = 0.5;
    return (
      this.#width * this.zoom <= this.#root.clientWidth * ratio() + slack &&
      this.#height * this.zoom <= this.#root.clientHeight * ratio() + slack
    );
  }

  #clamped(center, length, stageLength) {
    const half = (stageLength * ratio()) / this.zoom / 2;
    return half * 2 >= length ? length / 2 : Math.min(Math.max(center, half), length - half);
  }

  /** Where the image begins on the stage, on a pixel of the screen, and its scale, in CSS pixels. */
  #position() {
    const css = this.zoom / ratio();
    const snap = (value) => Math.round(value * ratio()) / ratio();
    return {
      left: snap(this.#root.clientWidth / 2 - this.#x * css),
      top: snap(this.#root.clientHeight / 2 - this.#y * css),
      css,
    };
  }

  #listen() {
    const root = this.#root;
    root.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button !== 0) return;
      root.setPointerCapture(event.pointerId);
      this.#pointers.set(event.pointerId, event);
      this.#drag = this.#divider.contains(event.target) || this.#fits() ? "divider" : "pan";
      root.classList.toggle("drags", this.#drag === "pan");
    });
    root.addEventListener("pointermove", (event) => {
      const before = this.#pointers.get(event.pointerId);
      if (!before) return;
      if (this.#pointers.size === 2) this.#pinch(before, event);
      else if (this.#drag === "divider") this.#dragDivider(event.clientX - before.clientX);
      else this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
      this.#pointers.set(event.pointerId, event);
    });
    for (const name of ["pointerup", "pointercancel"]) {
      root.addEventListener(name, (event) => {
        this.#pointers.delete(event.pointerId);
        root.classList.remove("drags");
      });
    }
    root.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    root.addEventListener("dblclick", (event) => {
      if (this.#divider.contains(event.target)) return;
      const box = root.getBoundingClientRect();
      if (!this.#fitted) this.fit();
      else this.zoomTo(Math.max(1, 2 * this.#fitZoom()), event.clientX - box.left, event.clientY - box.top);
    });
    root.addEventListener("keydown", (event) => this.#key(event));
  }

  #dragDivider(css) {
    const { left, right } = this.visible;
    this.moveDivider(this.split + css / Math.max(right - left, 1));
  }

  #pinch(before, now) {
    const [other] = [...this.#pointers.values()].filter((pointer) => pointer.pointerId !== now.pointerId);
    const distance = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
    const box = this.#root.getBoundingClientRect();
    const middleX = (now.clientX + other.clientX) / 2 - box.left;
    const middleY = (now.clientY + other.clientY) / 2 - box.top;
    this.zoomTo((this.zoom * Math.max(distance(now), 1)) / Math.max(distance(before), 1), middleX, middleY);
    this.pan((now.clientX - before.clientX) / 2, (now.clientY - before.clientY) / 2);
    this.#drag = "pan";
  }

  #wheel(event) {
    const smallest = this.zoom <= Math.min(this.#fitZoom(), 1);
    if (event.deltaY > 0 && smallest && !event.ctrlKey) return; // the page scrolls on
    event.preventDefault();
    const px = event.deltaY * [1, 16, 400][event.deltaMode];
    const box = this.#root.getBoundingClientRect();
    const factor = Math.exp(-px * (event.ctrlKey ? 0.01 : 0.002)); // trackpads report a pinch as ctrl
    this.zoomTo(this.zoom * factor, event.clientX - box.left, event.clientY - box.top);
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onDivider = event.target === this.#divider || this.#fits();
    const step = (event.shiftKey ? 10 : 1) / 100;
    const across = this.#root.clientWidth / 10;
    const down = this.#root.clientHeight / 10;
    const divider = (by) => this.moveDivider(this.split + by);
    const actions = {
      "+": () => this.zoomStep(1),
      "=": () => this.zoomStep(1),
      "-": () => this.zoomStep(-1),
      0: () => this.fit(),
      1: () => this.zoomTo(1),
      Home: () => this.moveDivider(0),
      End: () => this.moveDivider(1),
      PageUp: () => divider(0.1),
      PageDown: () => divider(-0.1),
      ArrowLeft: () => (onDivider ? divider(-step) : this.pan(across, 0)),
      ArrowRight: () => (onDivider ? divider(step) : this.pan(-across, 0)),
      ArrowUp: () => (event.target === this.#divider ? divider(step) : this.pan(0, down)),
      ArrowDown: () => (event.target === this.#divider ? divider(-step) : this.pan(0, -down)),
    };
    if (!Object.hasOwn(actions, event.key)) return;
    event.preventDefault();
    actions[event.key]();
    if (["+", "=", "-", "0", "1"].includes(event.key)) this.dispatchEvent(new Event("zoomed"));
  }
}
