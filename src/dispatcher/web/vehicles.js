// The vehicles on one canvas: shape and colour say the state, the shape's nose says the course.
//
// Shapes are drawn once into an atlas and copied from there, so ten thousand of them cost little more than the copying.

import { Surface } from "./camera.js";

const HEADINGS = 72;
const SHAPES = ["stale", "standing", "moving", "alarm-standing", "alarm-moving"];
const PULSE_MS = 1800;

// Frames that cost more than this are drawn every second or third time, so that the page stays quick to touch.
const FRAME_MS = 8;

export class Vehicles {
  constructor(map, theme, fleet) {
    this.surface = new Surface(map, map.getPane("mapPane").nextSibling);
    this.theme = theme;
    this.fleet = fleet;
    this.atlas = null;
    this.rows = SHAPES.map(() => []);
    this.cost = 0;
    this.skipped = 0;
    this.gliding = true;
  }

  setTheme(theme) {
    this.theme = theme;
    this.atlas = null;
  }

  // Draws if anything moved; `changed`: the camera or the fleet did.
  draw(view, now, changed, { selected, hovered, still }) {
    if (!changed && !this.gliding) return;
    const every = this.cost > 2 * FRAME_MS ? 3 : this.cost > FRAME_MS ? 2 : 1;
    this.skipped += 1;
    if (this.skipped < every) return;
    this.skipped = 0;
    const start = performance.now();
    this.paint(view, now, selected, hovered, still);
    this.cost += (performance.now() - start - this.cost) * 0.2;
  }

  paint(view, now, selected, hovered, still) {
    const context = this.surface.begin(view);
    const alarms = this.collect(view, now);
    const size = this.sizeAt(view.zoom);
    if (selected?.placed) this.paintTrail(context, view, selected);
    this.paintPulses(context, alarms, size, now, still);
    this.shapes(size);
    const { cell, ratio, image } = this.atlas;
    const side = cell / ratio;
    this.rows.forEach((row, index) => {
      for (let at = 0; at < row.length; at += 3) {
        const column = Math.round(row[at + 2] / 360 * HEADINGS + HEADINGS) % HEADINGS;
        context.drawImage(image, column * cell, index * cell, cell, cell, row[at] - side / 2, row[at + 1] - side / 2, side, side);
      }
    });
    if (hovered?.placed && hovered !== selected) this.paintName(context, view, hovered, size, false);
    if (selected?.placed) this.paintName(context, view, selected, size, true);
    if (alarms.length && !still) this.gliding = true;
  }

  // Sorts those in sight into rows by shape; the pixels of those in alarm.
  collect(view, now) {
    this.rows.forEach((row) => { row.length = 0; });
    this.gliding = false;
    const alarms = [];
    for (const vehicle of this.fleet.vehicles.values()) {
      if (!vehicle.placed) continue;
      if (vehicle.at(now)) this.gliding = true;
      const x = vehicle.x * view.scale - view.x;
      const y = vehicle.y * view.scale - view.y;
      if (x < -20 || y < -20 || x > view.width + 20 || y > view.height + 20) continue;
      const { state } = vehicle;
      const shape = state === "stale" ? 0 : state === "standing" ? 1 : state === "moving" ? 2 : vehicle.moving ? 4 : 3;
      this.rows[shape].push(x, y, vehicle.angle);
      if (shape > 2) alarms.push([x, y]);
    }
    return alarms;
  }

  // Half the length of an arrow: smaller from afar and in a crowd.
  sizeAt(zoom) {
    const crowd = this.rows.reduce((sum, row) => sum + row.length / 3, 0);
    const size = Math.max(3, Math.min(10, 3 + (zoom - 10.5) * 1.05));
    return Math.round(2 * size * (crowd > 3000 ? 0.7 : crowd > 1000 ? 0.85 : 1)) / 2;
  }

  shapes(size) {
    const ratio = devicePixelRatio || 1;
    if (this.atlas?.size === size && this.atlas.ratio === ratio) return;
    const cell = Math.ceil((size * 3 + 4) * ratio);
    const image = document.createElement("canvas");
    image.width = cell * HEADINGS;
    image.height = cell * SHAPES.length;
    const context = image.getContext("2d");
    SHAPES.forEach((shape, row) => {
      for (let column = 0; column < HEADINGS; column += 1) {
        context.setTransform(ratio, 0, 0, ratio, (column + 0.5) * cell, (row + 0.5) * cell);
        context.rotate(column / HEADINGS * 2 * Math.PI);
        this.paintShape(context, shape, size);
      }
    });
    this.atlas = { size, ratio, cell, image };
  }

  paintShape(context, shape, size) {
    const { theme } = this;
    context.lineJoin = "round";
    context.beginPath();
    if (shape === "moving" || shape === "alarm-moving") {
      context.moveTo(0, -size * 1.15);
      context.lineTo(size * 0.82, size * 0.92);
      context.quadraticCurveTo(0, size * 0.32, -size * 0.82, size * 0.92);
      context.closePath();
    } else {
      context.arc(0, 0, size * (shape === "stale" ? 0.5 : 0.62), 0, 2 * Math.PI);
    }
    const edge = Math.max(1.4, size * 0.22);
    if (shape === "stale") {
      context.lineWidth = edge * 2.4;
      context.strokeStyle = theme.halo;
      context.stroke();
      context.fillStyle = theme.halo;
      context.fill();
      context.lineWidth = Math.max(1.2, size * 0.2);
      context.strokeStyle = theme.stale;
      context.stroke();
      return;
    }
    context.lineWidth = edge * 2;
    context.strokeStyle = theme.halo;
    context.stroke();
    context.fillStyle = theme[shape.startsWith("alarm") ? "alarm" : shape];
    context.fill();
  }

  paintPulses(context, alarms, size, now, still) {
    if (!alarms.length) return;
    context.strokeStyle = context.fillStyle = this.theme.alarm;
    const part = still ? 0.45 : now % PULSE_MS / PULSE_MS;
    const radius = size * (1.1 + part * 1.3);
    context.lineWidth = 1.5;
    const each = (alpha, draw, of) => {
      context.globalAlpha = alpha;
      context.beginPath();
      for (const [x, y] of alarms) {
        context.moveTo(x + of, y);
        context.arc(x, y, of, 0, 2 * Math.PI);
      }
      draw.call(context);
    };
    each(0.13, context.fill, size * 1.6);
    each((1 - part) * 0.7, context.stroke, radius);
    context.globalAlpha = 1;
  }

  paintTrail(context, view, vehicle) {
    const { trail } = vehicle;
    context.lineCap = "butt";
    context.strokeStyle = this.theme[vehicle.state];
    context.lineWidth = 3.5;
    const count = trail.length / 2;
    for (let at = 0; at < count; at += 1) {
      const last = at + 1 >= count;
      context.globalAlpha = 0.08 + 0.6 * (at / count);
      context.beginPath();
      context.moveTo(trail[2 * at] * view.scale - view.x, trail[2 * at + 1] * view.scale - view.y);
      // The newest fix lies ahead of where the vehicle is drawn: the trail ends at the vehicle.
      const [x, y] = last || at + 2 >= count ? [vehicle.x, vehicle.y] : [trail[2 * at + 2], trail[2 * at + 3]];
      context.lineTo(x * view.scale - view.x, y * view.scale - view.y);
      context.stroke();
      if (at + 2 >= count) break;
    }
    context.globalAlpha = 1;
  }

  paintName(context, view, vehicle, size, selected) {
    const x = vehicle.x * view.scale - view.x;
    const y = vehicle.y * view.scale - view.y;
    if (selected) {
      context.beginPath();
      context.arc(x, y, size * 1.9 + 2, 0, 2 * Math.PI);
      context.lineWidth = 2;
      context.strokeStyle = this.theme.ink;
      context.stroke();
    }
    context.font = "600 12px system-ui, sans-serif";
    const width = context.measureText(vehicle.device).width + 14;
    const top = y - size * 1.9 - 30;
    context.fillStyle = this.theme["surface-solid"];
    context.shadowColor = "rgb(0 0 0 / 25%)";
    context.shadowBlur = 6;
    context.beginPath();
    context.roundRect(x - width / 2, top, width, 21, 7);
    context.fill();
    context.shadowBlur = 0;
    context.fillStyle = this.theme.ink;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(vehicle.device, x, top + 11);
  }

  // The vehicle drawn nearest to a pixel, within `reach` pixels.
  pick(view, { x, y }, reach) {
    let [best, least] = [null, reach];
    for (const vehicle of this.fleet.vehicles.values()) {
      if (!vehicle.placed) continue;
      const far = Math.hypot(vehicle.x * view.scale - view.x - x, vehicle.y * view.scale - view.y - y);
      if (far < least) [best, least] = [vehicle, far];
    }
    return best;
  }
}
