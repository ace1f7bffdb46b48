// Numbers as text for users.

const UNITS = ["bytes", "kB", "MB", "GB", "TB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1000 && unit < UNITS.length - 1) {
    count /= 1000;
    unit += 1;
  }
  return `${unit && count < 10 ? count.toFixed(1) : Math.round(count)} ${UNITS[unit]}`;
}

const FORMATS = { webp: "WebP", jxl: "JPEG XL" };

/** The name of an image format. */
export const formatName = (name) => FORMATS[name] ?? name.toUpperCase();

export function duration(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.round(minutes / 60 / 24)} days`;
}

export function size({ width, height }) {
  return `${width} × ${height}`;
}

export function percent(fraction) {
  return `${Math.floor(fraction * 100)}%`;
}
