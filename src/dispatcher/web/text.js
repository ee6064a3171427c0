// Values as people read them.

// "power_cut" as "Power cut".
export function kindText(kind) {
  const words = kind.replaceAll("_", " ").replace(/^(gnss|sos)\b/, (name) => name.toUpperCase());
  return words[0].toUpperCase() + words.slice(1);
}

// A time span in milliseconds, in its largest unit.
export function spanText(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d`;
}

const POINTS = ["N", "NE", "E", "SE", "S", "SW", "W", "NW"];

// A course in degrees as a point of the compass.
export function compassText(deg) {
  return POINTS[Math.round(deg / 45) % 8];
}

// Latitude and longitude to about a metre.
export function placeText(lat, lon) {
  const part = (value, plus, minus) => `${Math.abs(value).toFixed(5)}° ${value < 0 ? minus : plus}`;
  return `${part(lat, "N", "S")}, ${part(lon, "E", "W")}`;
}

export function countText(count) {
  return count.toLocaleString("en").replaceAll(",", "\u202f");
}
