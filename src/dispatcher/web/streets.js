// Street names along the streets, where there is room for them.

const FROM_ZOOM = 14.6;
const AGAIN_PX = 340;
const BEND_PX = 5;
const FONT = "500 11px system-ui, sans-serif";

export class Streets {
  // `points` are the nodes in world units.
  constructor(edges, points) {
    this.chains = [...chain(edges.filter((edge) => edge.name), points)];
    this.widths = new Map();
  }

  paint(context, view, theme) {
    if (view.zoom < FROM_ZOOM) return;
    context.font = FONT;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 3;
    context.strokeStyle = theme.halo;
    context.fillStyle = theme.street;
    const taken = [];
    for (const { name, points, box } of this.chains) {
      if (outside(box, view)) continue;
      if (!this.widths.has(name)) this.widths.set(name, context.measureText(name).width);
      const width = this.widths.get(name);
      for (const spot of spots(points, width + 14, view)) {
        const clear = taken.every((other) => {
          const distance = Math.hypot(other.x - spot.x, other.y - spot.y);
          return distance > (other.name === name ? AGAIN_PX : (other.width + width) / 2 + 6);
        });
        if (!clear) continue;
        taken.push({ ...spot, name, width });
        context.save();
        context.translate(spot.x, spot.y);
        context.rotate(spot.angle);
        context.globalAlpha = 0.85;
        context.strokeText(name, 0, 0);
        context.globalAlpha = 1;
        context.fillText(name, 0, 0);
        context.restore();
      }
    }
  }
}

function outside(box, { x, y, scale, width, height }) {
  return box.right * scale - x < 0 || box.left * scale - x > width || box.bottom * scale - y < 0 || box.top * scale - y > height;
}

// Stretches of a street that are `length` pixels long, nearly straight and in sight.
function* spots(points, length, view) {
  const pixels = points.map(([x, y]) => [x * view.scale - view.x, y * view.scale - view.y]);
  let start = 0;
  let reach = 0;
  for (let end = 1; end < pixels.length; end += 1) {
    reach = Math.hypot(pixels[end][0] - pixels[start][0], pixels[end][1] - pixels[start][1]);
    while (end - start > 1 && bend(pixels, start, end) > BEND_PX) {
      start += 1;
      reach = Math.hypot(pixels[end][0] - pixels[start][0], pixels[end][1] - pixels[start][1]);
    }
    if (reach < length) continue;
    const [[x0, y0], [x1, y1]] = [pixels[start], pixels[end]];
    const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
    start = end;
    if (x < 0 || x > view.width || y < 0 || y > view.height) continue;
    const angle = Math.atan2(y1 - y0, x1 - x0);
    yield { x, y, angle: Math.abs(angle) > Math.PI / 2 ? angle + Math.PI : angle };
  }
}

// How far the points between two others lie off the straight line.
function bend(pixels, start, end) {
  const [[x0, y0], [x1, y1]] = [pixels[start], pixels[end]];
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  let most = 0;
  for (let at = start + 1; at < end; at += 1) {
    const [x, y] = pixels[at];
    most = Math.max(most, Math.abs((x1 - x0) * (y0 - y) - (x0 - x) * (y1 - y0)) / length);
  }
  return most;
}

// Joins edges of one name end to end, so that a name fits on a street that has many junctions.
function* chain(edges, points) {
  const byName = Map.groupBy(edges, (edge) => edge.name);
  for (const [name, group] of byName) {
    const open = new Set(group);
    for (const seed of group) {
      if (!open.delete(seed)) continue;
      const nodes = [...seed.nodes];
      for (let grown = true; grown;) {
        grown = false;
        for (const edge of open) {
          const [first, last] = [edge.nodes[0], edge.nodes.at(-1)];
          if (first === nodes.at(-1)) nodes.push(...edge.nodes.slice(1));
          else if (last === nodes[0]) nodes.unshift(...edge.nodes.slice(0, -1));
          else if (last === nodes.at(-1)) nodes.push(...edge.nodes.slice(0, -1).reverse());
          else if (first === nodes[0]) nodes.unshift(...edge.nodes.slice(1).reverse());
          else continue;
          open.delete(edge);
          grown = true;
        }
      }
      const way = nodes.map((node) => points[node]);
      const [xs, ys] = [way.map(([x]) => x), way.map(([, y]) => y)];
      yield {
        name,
        points: way,
        box: { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) },
      };
    }
  }
}
