// The camera: Leaflet's map, but zooming is a glide drawn anew on each frame instead of a stretched picture.

import { still } from "./theme.js";
import { unproject } from "./fleet.js";

const GLIDE_MS = 75;

export function makeMap(element) {
  const map = L.map(element, {
    attributionControl: false,
    zoomControl: false,
    zoomAnimation: false,
    fadeAnimation: false,
    zoomSnap: 0,
    wheelPxPerZoomLevel: 90,
    minZoom: 3,
    maxZoom: 19,
    worldCopyJump: false,
    maxBounds: [[-85, -180], [85, 180]],
    maxBoundsViscosity: 1,
  });
  L.control.zoom({ position: "bottomright" }).addTo(map);
  L.control.scale({ position: "bottomleft", imperial: false, maxWidth: 120 }).addTo(map);
  smoothZoom(map);
  return map;
}

// Replaces the two calls that wheel, keys, buttons and double clicks end in.
function smoothZoom(map) {
  const jump = L.Map.prototype.setZoomAround;
  let target = null;
  let anchor = null;
  let last = 0;
  const step = (now) => {
    if (target === null) return;
    const zoom = map.getZoom();
    const part = 1 - Math.exp(-(now - last) / GLIDE_MS);
    last = now;
    const near = Math.abs(target - zoom) < 0.004;
    jump.call(map, anchor, near ? target : zoom + (target - zoom) * part, { animate: false });
    if (near) target = null;
    else requestAnimationFrame(step);
  };
  const glide = (point, zoom) => {
    const idle = target === null;
    anchor = point;
    target = Math.max(map.getMinZoom(), Math.min(map.getMaxZoom(), zoom));
    if (still()) {
      jump.call(map, anchor, target, { animate: false });
      target = null;
    } else if (idle) {
      last = performance.now();
      requestAnimationFrame(step);
    }
    return map;
  };
  map.setZoom = (zoom) => map._loaded ? glide(map.getSize().divideBy(2), zoom) : L.Map.prototype.setZoom.call(map, zoom);
  map.setZoomAround = (place, zoom) =>
    glide(place instanceof L.Point ? place : map.latLngToContainerPoint(place), zoom);
  map.on("mousedown touchstart movestart", (event) => {
    if (event.type !== "movestart") target = null;
  });
}

// What a canvas needs to draw: world units times `scale` less (`x`, `y`) are its pixels.
export function view(map) {
  const { min } = map.getPixelBounds();
  const size = map.getSize();
  const zoom = map.getZoom();
  return { x: min.x, y: min.y, scale: 2 ** zoom, zoom, width: size.x, height: size.y };
}

export const sameView = (a, b) => !!a && !!b && a.x === b.x && a.y === b.y && a.scale === b.scale
  && a.width === b.width && a.height === b.height;

// Moves to a place in world units.
export function goTo(map, x, y, zoomMin) {
  const zoom = Math.max(map.getZoom(), zoomMin);
  if (still()) map.setView(unproject(x, y), zoom, { animate: false });
  else map.flyTo(unproject(x, y), zoom, { duration: 0.7 });
}

// A canvas that covers the map at the resolution of the screen.
export class Surface {
  constructor(map, below) {
    this.canvas = document.createElement("canvas");
    map.getContainer().insertBefore(this.canvas, below ?? map.getPane("mapPane"));
    this.context = this.canvas.getContext("2d");
    // What it shows.
    this.view = null;
  }

  // Makes it fit and empties it, to be drawn for `view`.
  begin(view) {
    const ratio = devicePixelRatio || 1;
    const { canvas, context } = this;
    const [w, h] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      canvas.width = w;
      canvas.height = h;
      canvas.style.width = `${view.width}px`;
      canvas.style.height = `${view.height}px`;
    }
    if (canvas.style.transform) canvas.style.transform = "";
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, w, h);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.view = view;
    return context;
  }

  // Moves the picture to where the camera is now, for who has no time to draw it anew.
  stretch(view) {
    const scale = view.scale / this.view.scale;
    const [x, y] = [this.view.x * scale - view.x, this.view.y * scale - view.y];
    this.canvas.style.transformOrigin = "0 0";
    this.canvas.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  }
}
