// Every vehicle: what it last said, where to draw it now, its recent trail.
//
// Positions are kept in "world" units: Web Mercator with the whole world 256 units wide, as Leaflet has it at zoom 0.
// Between two fixes a vehicle glides for about as long as its fixes are apart, so a steady reporter never stops.

const WORLD = 256;
const METRES_PER_UNIT = 40_075_016.7 / WORLD;
const STALE_AFTER_MS = 60_000;
const MOVING_MPS = 0.8;
const GLIDE_MIN_MS = 150;
const GLIDE_MAX_MS = 2500;
const TURN_MS = 350;
const TRAIL_POINTS_MAX = 90;
const TRAIL_STEP_M = 6;
const JUMP_MPS = 90;
const JUMP_M = 150;

export const STATES = ["moving", "standing", "alarm", "stale"];

// Longitude and latitude in world units.
export function project(lon, lat) {
  const sin = Math.sin(Math.max(-85.0511, Math.min(85.0511, lat)) * Math.PI / 180);
  return [
    (lon / 360 + 0.5) * WORLD,
    (0.5 - Math.log((1 + sin) / (1 - sin)) / (4 * Math.PI)) * WORLD,
  ];
}

// World units as latitude and longitude.
export function unproject(x, y) {
  return [
    Math.atan(Math.sinh(Math.PI * (1 - 2 * y / WORLD))) * 180 / Math.PI,
    (x / WORLD - 0.5) * 360,
  ];
}

class Vehicle {
  constructor(device) {
    this.device = device;
    this.track = null;
    this.state = "stale";
    this.moving = false;
    this.placed = false;
    this.trail = [];
    this.firstFix = null;
    this.recalled = false;
    this.heading = null;
    this.heardAt = 0;
    this.period = 1000;
  }

  // Where it is drawn at `now`: fills x, y and angle.
  at(now) {
    const part = this.glide > 0 ? Math.min(1, (now - this.since) / this.glide) : 1;
    this.x = this.fromX + (this.toX - this.fromX) * part;
    this.y = this.fromY + (this.toY - this.fromY) * part;
    const turn = Math.min(1, (now - this.since) / TURN_MS);
    this.angle = this.fromAngle + this.turn * turn;
    return part < 1;
  }

  hear(track, now, live, still) {
    const gap = now - this.heardAt;
    this.track = track;
    this.heardAt = now;
    this.moving = (track.speed_mps ?? 0) >= MOVING_MPS;
    if (track.lat === undefined) return;
    this.firstFix ??= Date.parse(track.time ?? track.received);
    const [x, y] = project(track.lon, track.lat);
    const metres = METRES_PER_UNIT * Math.cos(track.lat * Math.PI / 180);
    if (live && this.placed && gap < 10_000) this.period += (gap - this.period) * 0.3;
    this.place(x, y, metres, now, live && !still, gap);
    this.leaveTrail(x, y, metres);
  }

  place(x, y, metres, now, glides, gap) {
    if (!this.placed) {
      this.fromX = this.toX = x;
      this.fromY = this.toY = y;
      this.fromAngle = this.turn = 0;
      this.since = now;
      this.glide = 0;
    }
    this.at(now);
    const far = Math.hypot(x - this.x, y - this.y) * metres;
    const jumps = far > JUMP_M + JUMP_MPS * gap / 1000;
    const course = this.track.course_deg ?? (far > 2 && this.placed ? bearing(this.x, this.y, x, y) : null);
    this.fromX = glides && !jumps ? this.x : x;
    this.fromY = glides && !jumps ? this.y : y;
    this.toX = x;
    this.toY = y;
    this.since = now;
    this.glide = glides && !jumps ? Math.max(GLIDE_MIN_MS, Math.min(GLIDE_MAX_MS, this.period * 1.08)) : 0;
    // A standing receiver reports any course at all; the last one while moving is the truth.
    if (course !== null && (this.moving || this.heading === null)) {
      const before = this.heading === null || !glides ? course : this.angle;
      this.heading = course;
      this.fromAngle = before;
      this.turn = ((course - before) % 360 + 540) % 360 - 180;
    } else {
      this.fromAngle = this.angle;
      this.turn = 0;
    }
    if (jumps && this.placed) this.trail.length = 0;
    this.placed = true;
  }

  leaveTrail(x, y, metres) {
    const { trail } = this;
    const { length } = trail;
    if (length && Math.hypot(x - trail[length - 2], y - trail[length - 1]) * metres < TRAIL_STEP_M) return;
    trail.push(x, y);
    if (trail.length > TRAIL_POINTS_MAX * 2) trail.splice(0, 2);
  }

  // Puts what the node remembers before what this page saw.
  recall(points) {
    const room = TRAIL_POINTS_MAX - this.trail.length / 2;
    if (room > 0) this.trail.unshift(...points.slice(-room).flatMap(({ lon, lat }) => project(lon, lat)));
  }

  judge(age) {
    const { track } = this;
    if (track.alarms.length) this.state = "alarm";
    else if (age > STALE_AFTER_MS || !track.valid) this.state = "stale";
    else this.state = this.moving ? "moving" : "standing";
  }
}

function bearing(x0, y0, x1, y1) {
  return (Math.atan2(x1 - x0, y0 - y1) * 180 / Math.PI + 360) % 360;
}

export class Fleet {
  constructor() {
    this.vehicles = new Map();
    this.updates = 0;
    // Our clock minus the node's, as far as the quickest message tells; ages are counted by the node's.
    this.clockAhead = null;
  }

  // Takes tracks; `live` ones move smoothly, those of a snapshot are simply there.
  hear(tracks, live, still) {
    const now = performance.now();
    const wall = Date.now();
    for (const track of tracks) {
      let vehicle = this.vehicles.get(track.device);
      if (!vehicle) this.vehicles.set(track.device, vehicle = new Vehicle(track.device));
      vehicle.received = Date.parse(track.received);
      if (live) {
        const ahead = wall - vehicle.received;
        if (this.clockAhead === null || ahead < this.clockAhead) this.clockAhead = ahead;
      }
      vehicle.hear(track, now, live, still);
      vehicle.judge(this.age(vehicle, wall));
    }
    if (live) this.updates += tracks.length;
  }

  // An alarm began or ended: shown at once, since a vehicle's next track may be a while off.
  alarm({ device, kind, late }, open) {
    const vehicle = this.vehicles.get(device);
    if (!vehicle || late) return;
    const others = vehicle.track.alarms.filter((other) => other !== kind);
    vehicle.track.alarms = open ? [...others, kind] : others;
    vehicle.judge(this.age(vehicle));
  }

  // Forgets who is not among `devices` (after a snapshot that did not name them).
  keepOnly(devices) {
    for (const device of this.vehicles.keys()) if (!devices.has(device)) this.vehicles.delete(device);
  }

  // How long ago a vehicle was heard, milliseconds.
  age(vehicle, wall = Date.now()) {
    return Math.max(0, wall - (this.clockAhead ?? 0) - vehicle.received);
  }

  // How long ago a time of the node's was, milliseconds.
  since(time) {
    return Math.max(0, Date.now() - (this.clockAhead ?? 0) - Date.parse(time));
  }

  // Judges everybody anew and counts the states.
  count() {
    const wall = Date.now();
    const counts = { moving: 0, standing: 0, alarm: 0, stale: 0 };
    for (const vehicle of this.vehicles.values()) {
      vehicle.judge(this.age(vehicle, wall));
      counts[vehicle.state] += 1;
    }
    return counts;
  }

  // Corners of the box around everybody who has a place, as [[lat, lon], [lat, lon]]; null if nobody has. `trim`: the
  // part of them that may be left out on each side.
  bounds(trim = 0) {
    const placed = [...this.vehicles.values()].filter((vehicle) => vehicle.placed);
    if (!placed.length) return null;
    const [xs, ys] = ["toX", "toY"].map((axis) => placed.map((vehicle) => vehicle[axis]).sort((a, b) => a - b));
    const left = Math.floor(placed.length * trim);
    return [unproject(xs[left], ys[left]), unproject(xs.at(-1 - left), ys.at(-1 - left))];
  }
}
