// The colours of style.css for those who draw on a canvas.

const NAMES = ["ground", "built", "road", "road-major", "road-top", "casing", "casing-major", "thin", "street", "halo", "ink",
  "surface-solid", "accent", "moving", "standing", "alarm", "stale"];

const read = () => {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
};

// Calls back whenever the system switches between light and dark.
export function watchTheme(onChange) {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => onChange(read()));
  return read();
}

const calm = matchMedia("(prefers-reduced-motion: reduce)");

// Whether the reader wants things to stay still.
export const still = () => calm.matches;
