// The vehicles on a canvas: shape and colour say the state, the shape's nose says the course.
//
// Shapes are drawn once into an atlas and copied from there, so ten thousand of them cost little more than the copying.
// And they are copied only as often as anybody could see a difference, or as the machine can bear: in between, the
// picture is moved with the camera. What pulses has a canvas of its own.

import { Surface, sameView } from "./camera.js";

const HEADINGS = 72;
const SHAPES = ["stale", "standing", "moving", "alarm-standing", "alarm-moving"];

// A vehicle at this speed may lag by this many pixels before it is drawn anew.
const SPEED_MPS = 25;
const LAG_PX = 0.7;
const LAG_MAX_MS = 250;
const METRES_PER_UNIT = 40_075_016.7 / 256;

// A frame in which nothing was drawn takes this long; what is above it, drawing took.
const FRAME_MS = 17;
const COST_MAX_MS = 250;

const PULSE_MS = 1800;
const PULSE_STEP_MS = 33;
const PULSES_MAX = 150;

export class Vehicles {
  constructor(map, theme, fleet) {
    const above = map.getPane("mapPane").nextSibling;
    this.pulses = new Surface(map, above);
    this.surface = new Surface(map, above);
    this.theme = theme;
    this.fleet = fleet;
    this.atlas = null;
    this.rows = SHAPES.map(() => []);
    this.alarms = [];
    this.gliding = true;
    this.paintedAt = -Infinity;
    this.pulsedAt = 0;
    this.cost = 0;
    this.costKnown = true;
  }

  setTheme(theme) {
    this.theme = theme;
    this.atlas = null;
  }

  // Draws what changed. `atOnce`: something that a hand did must show.
  draw(view, now, { changed, atOnce, selected, hovered, still }) {
    if (!this.costKnown) {
      // The canvas is drawn after we returned, so what it cost shows in how late this frame is.
      this.cost += (Math.min(COST_MAX_MS, Math.max(0, now - this.paintedAt - FRAME_MS)) - this.cost) * 0.3;
      this.costKnown = true;
    }
    this.changed ||= changed || this.gliding;
    this.atOnce ||= atOnce;
    const moved = !sameView(view, this.surface.view);
    if (moved || this.changed || this.atOnce) {
      const metresPerPixel = METRES_PER_UNIT / Math.cosh(Math.PI * (1 - (view.y + view.height / 2) / view.scale / 128)) / view.scale;
      const lag = moved || this.atOnce ? 0 : Math.min(LAG_MAX_MS, LAG_PX / SPEED_MPS * metresPerPixel * 1000);
      if (now - this.paintedAt >= Math.max(lag, 2 * this.cost) || !this.surface.view) {
        this.paint(view, now, selected, hovered);
        this.paintedAt = now;
        this.changed = this.atOnce = this.costKnown = false;
        this.pulsedAt = 0;
      } else if (moved) {
        this.surface.stretch(view);
        if (this.pulses.view) this.pulses.stretch(view);
      }
    }
    // Not between a change of colours and the next picture: there is nothing to pulse on.
    if (this.atlas && now - this.pulsedAt >= PULSE_STEP_MS && (this.alarms.length || this.pulsing)) {
      this.paintPulses(now, still);
      this.pulsedAt = still ? Infinity : now;
    }
  }

  paint(view, now, selected, hovered) {
    const context = this.surface.begin(view);
    this.collect(view, now);
    const size = this.sizeAt(view.zoom);
    if (selected?.placed) this.paintTrail(context, view, selected);
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
  }

  // Sorts those in sight into rows by shape, and notes where those in alarm are.
  collect(view, now) {
    this.rows.forEach((row) => { row.length = 0; });
    this.gliding = false;
    this.alarms.length = 0;
    for (const vehicle of this.fleet.vehicles.values()) {
      if (!vehicle.placed) continue;
      if (vehicle.at(now)) this.gliding = true;
      const x = vehicle.x * view.scale - view.x;
      const y = vehicle.y * view.scale - view.y;
      if (x < -20 || y < -20 || x > view.width + 20 || y > view.height + 20) continue;
      const { state } = vehicle;
      const shape = state === "stale" ? 0 : state === "standing" ? 1 : state === "moving" ? 2 : vehicle.moving ? 4 : 3;
      this.rows[shape].push(x, y, vehicle.angle);
      if (shape > 2) this.alarms.push([x, y]);
    }
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

  // On the picture that the vehicles have now.
  paintPulses(now, still) {
    const context = this.pulses.begin(this.surface.view);
    const { size } = this.atlas;
    const part = still ? 0.45 : now % PULSE_MS / PULSE_MS;
    const circles = (radius, alpha, draw) => {
      context.globalAlpha = alpha;
      for (const [x, y] of this.alarms.slice(0, PULSES_MAX)) {
        context.beginPath();
        context.arc(x, y, radius, 0, 2 * Math.PI);
        draw.call(context);
      }
    };
    context.strokeStyle = context.fillStyle = this.theme.alarm;
    context.lineWidth = 1.5;
    circles(size * 1.6, 0.14, context.fill);
    circles(size * (1.1 + part * 1.3), (1 - part) * 0.7, context.stroke);
    this.pulsing = this.alarms.length > 0;
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
