// The base layer: the road graph of the node, drawn by class. There are no tiles and there is no other source.

import { project } from "./fleet.js";
import { Surface, sameView } from "./camera.js";
import { Streets } from "./streets.js";

// By class, the widest last: width at zoom 14 in pixels, the zoom from which it is drawn, its colours.
const CLASSES = [
  { of: ["service", "track", "other"], width: 1.1, from: 14, fill: "road", casing: "casing" },
  { of: ["living_street", "residential", "unclassified", "road"], width: 2.2, from: 11.5, fill: "road", casing: "casing" },
  { of: ["tertiary", "tertiary_link"], width: 3, from: 10, fill: "road", casing: "casing" },
  { of: ["secondary", "secondary_link", "primary_link", "trunk_link", "motorway_link"], width: 3.7, from: 8, fill: "road-major", casing: "casing-major" },
  { of: ["primary", "trunk"], width: 4.6, from: 5, fill: "road-major", casing: "casing-major" },
  { of: ["motorway"], width: 5.6, from: 3, fill: "road-top", casing: "casing-major" },
];
const OTHER = 1;
const GROWTH = 1.52;

// Metres to either side of a street that are taken for built-up.
const BUILT_M = 95;
const METRES_PER_UNIT = 40_075_016.7 / 256;

// A frame may take this long; a graph that takes longer is stretched while the camera moves and drawn when it rests.
const FRAME_MS = 7;
const REST_MS = 90;

export class Roads {
  // `expected`: a graph will come (see `build`); until then nothing is drawn.
  constructor(map, theme, expected) {
    this.surface = new Surface(map);
    this.theme = theme;
    this.expected = expected;
    this.cost = 0;
    this.movedAt = 0;
  }

  build(graph) {
    const points = graph.nodes.map(([lon, lat]) => project(lon, lat));
    const [left, top] = points.reduce(([l, t], [x, y]) => [Math.min(l, x), Math.min(t, y)], [256, 256]);
    const [right, bottom] = points.reduce(([r, b], [x, y]) => [Math.max(r, x), Math.max(b, y)], [0, 0]);
    // Canvas paths are single precision: they are kept around the middle of the graph.
    this.middle = [(left + right) / 2, (top + bottom) / 2];
    this.box = { left, top, right, bottom };
    this.metres = METRES_PER_UNIT / Math.cosh(Math.PI * (1 - 2 * this.middle[1] / 256));
    this.paths = CLASSES.map(() => new Path2D());
    const rank = new Map(CLASSES.flatMap(({ of }, index) => of.map((name) => [name, index])));
    for (const edge of graph.edges) {
      const path = this.paths[rank.get(edge.class) ?? OTHER];
      edge.nodes.forEach((node, index) => {
        const [x, y] = points[node];
        if (index) path.lineTo(x - this.middle[0], y - this.middle[1]);
        else path.moveTo(x - this.middle[0], y - this.middle[1]);
      });
    }
    this.built = new Path2D();
    [1, 2, 3].forEach((index) => this.built.addPath(this.paths[index]));
    this.streets = new Streets(graph.edges, points);
    this.drawn = false;
  }

  // Corners of the graph in world units, if there is one.
  bounds() {
    return this.box;
  }

  setTheme(theme) {
    this.theme = theme;
    this.drawn = false;
  }

  // Brings the layer to where the camera is.
  draw(view, now) {
    if (this.drawn && sameView(this.surface.view, view)) return;
    if (!sameView(this.seen, view)) {
      this.seen = view;
      this.movedAt = now;
    }
    if (this.drawn && this.cost > FRAME_MS && now - this.movedAt < REST_MS) {
      this.surface.stretch(view);
      return;
    }
    const start = performance.now();
    this.paint(view);
    this.cost = performance.now() - start;
    this.drawn = true;
  }

  paint(view) {
    const context = this.surface.begin(view);
    if (!this.paths) {
      if (!this.expected) this.paintGrid(context, view);
      return;
    }
    const { theme, paths } = this;
    context.save();
    context.translate(this.middle[0] * view.scale - view.x, this.middle[1] * view.scale - view.y);
    context.scale(view.scale, view.scale);
    context.lineCap = context.lineJoin = "round";
    const stroke = (path, colour, pixels) => {
      context.strokeStyle = colour;
      context.lineWidth = pixels / view.scale;
      context.stroke(path);
    };
    const built = Math.min(2 * BUILT_M / this.metres * view.scale, 400);
    // From close by it would be but a blob around each street.
    context.globalAlpha = Math.max(0.45, Math.min(1, 1 - (view.zoom - 15.5) * 0.35));
    if (built > 3) stroke(this.built, theme.built, built);
    context.globalAlpha = 1;
    const shown = CLASSES
      .map((kind, index) => ({ ...kind, path: paths[index], pixels: width(kind, view.zoom) }))
      .filter((kind) => view.zoom >= kind.from);
    for (const { path, pixels, casing } of shown) {
      if (pixels > 1.6) stroke(path, theme[casing], pixels + Math.min(2.2, 0.7 + pixels * 0.16));
    }
    for (const { path, pixels, fill } of shown) {
      stroke(path, pixels > 1.6 ? theme[fill] : theme.thin, pixels);
    }
    context.restore();
    this.streets.paint(context, view, theme);
  }

  // Without roads: degrees, so that movement can be seen at all.
  paintGrid(context, view) {
    const step = [10, 5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005]
      .findLast((deg) => deg / 360 * 256 * view.scale > 70) ?? 10;
    context.strokeStyle = this.theme.casing;
    context.lineWidth = 1;
    context.globalAlpha = 0.6;
    context.beginPath();
    const lonAt = (x) => ((x + view.x) / view.scale / 256 - 0.5) * 360;
    for (let lon = Math.ceil(lonAt(0) / step) * step; lon < lonAt(view.width); lon += step) {
      const x = Math.round((lon / 360 + 0.5) * 256 * view.scale - view.x) + 0.5;
      context.moveTo(x, 0);
      context.lineTo(x, view.height);
    }
    const latAt = (y) => Math.atan(Math.sinh(Math.PI * (1 - 2 * (y + view.y) / view.scale / 256))) * 180 / Math.PI;
    for (let lat = Math.ceil(latAt(view.height) / step) * step; lat < latAt(0); lat += step) {
      const y = Math.round(project(0, lat)[1] * view.scale - view.y) + 0.5;
      context.moveTo(0, y);
      context.lineTo(view.width, y);
    }
    context.stroke();
    context.globalAlpha = 1;
  }
}

const width = (kind, zoom) => Math.max(0.6, kind.width * GROWTH ** (Math.min(zoom, 18.5) - 14.6));
