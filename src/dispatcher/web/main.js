// The live map: puts stream, fleet, canvases and panels together, and draws a frame when there is something to draw.

import { goTo, makeMap, view } from "./camera.js";
import { Alarms } from "./alarms.js";
import { Detail } from "./detail.js";
import { Fleet, STATES, unproject } from "./fleet.js";
import { Roads } from "./roads.js";
import { Search } from "./search.js";
import { Stream } from "./stream.js";
import { countText, spanText } from "./text.js";
import { still, watchTheme } from "./theme.js";
import { Vehicles } from "./vehicles.js";

const FOCUS_ZOOM = 15.5;
const REACH_PX = matchMedia("(pointer: coarse)").matches ? 26 : 15;
const PANELS_MS = 250;
const FRAME_TRIM = 0.05;
const ASSEMBLE_MS = 1500;

const element = (id) => document.getElementById(id);
const fleet = new Fleet();
const map = makeMap("map");
map.setView([25, 10], 3, { animate: false });
let theme = watchTheme((now) => {
  theme = now;
  roads.setTheme(now);
  vehicles.setTheme(now);
  atOnce = true;
});
const roads = new Roads(map, theme, document.body.dataset.roads === "yes");
const vehicles = new Vehicles(map, theme, fleet);

let selected = null;
let hovered = null;
let following = false;
// What there is to draw: the fleet moved, or a hand did something that must show at once.
let changed = true;
let atOnce = true;
let framed = false;

function select(vehicle, move = false) {
  selected = vehicle ?? null;
  following = false;
  if (selected && move && selected.placed) {
    selected.at(performance.now());
    goTo(map, selected.x, selected.y, FOCUS_ZOOM);
  }
  atOnce = true;
  detail.show(selected, following);
  if (selected && !selected.recalled) recall(selected);
}

// Asks once for a vehicle's trail from before this page was opened.
async function recall(vehicle) {
  vehicle.recalled = true;
  try {
    const answer = await fetch(`/v1/tracks/${encodeURIComponent(vehicle.device)}`);
    const { trail } = (await answer.json()).properties;
    vehicle.recall(trail.filter(({ time }) => Date.parse(time) < vehicle.firstFix));
    atOnce = true;
  } catch {
    // The trail begins where this page began.
  }
}

const pick = (device) => select(fleet.vehicles.get(device), true);
const alarms = new Alarms(fleet, pick);
const search = new Search(fleet, pick);
const detail = new Detail(fleet, {
  onClose: () => select(null),
  onFollow: () => {
    following = !following;
    detail.show(selected, following);
  },
});

function frame(bounds) {
  const wide = map.getSize().x > 900;
  map.fitBounds(bounds, {
    animate: false,
    maxZoom: 16,
    paddingTopLeft: wide ? [310, 40] : [24, 180],
    paddingBottomRight: wide ? [330, 40] : [24, 110],
  });
}

// Shows everybody.
function frameAll() {
  following = false;
  const bounds = fleet.bounds();
  if (bounds) frame(bounds);
}

// The first picture: where nearly everybody is, or the roads as long as nobody is there. Once only, and not after a
// hand has moved the map.
function frameFirst() {
  if (framed) return;
  const bounds = fleet.bounds(FRAME_TRIM);
  const box = roads.bounds();
  if (bounds) frame(bounds);
  else if (box) frame([unproject(box.left, box.top), unproject(box.right, box.bottom)]);
  framed = bounds !== null;
}

function draw(now) {
  requestAnimationFrame(draw);
  if (following && selected) {
    selected.at(now);
    map.setView(unproject(selected.x, selected.y), map.getZoom(), { animate: false });
  }
  const camera = view(map);
  roads.draw(camera, now);
  vehicles.draw(camera, now, { changed, atOnce, selected, hovered, still: still() });
  changed = atOnce = false;
}

let firstAt = null;
let ratedAt = performance.now();
let ratedUpdates = 0;

function showPanels() {
  const counts = fleet.count();
  const total = fleet.vehicles.size;
  element("count").textContent = countText(total);
  element("count-unit").textContent = total === 1 ? "vehicle" : "vehicles";
  for (const state of STATES) {
    element("states").querySelector(`[data-state="${state}"] dd`).textContent = countText(counts[state]);
    element("shares").querySelector(`[data-state="${state}"]`).style.flexGrow = counts[state];
  }
  const now = performance.now();
  if (now - ratedAt >= 1000) {
    element("rate").textContent = countText(Math.round((fleet.updates - ratedUpdates) / (now - ratedAt) * 1000));
    [ratedAt, ratedUpdates] = [now, fleet.updates];
    // A vehicle that falls silent changes its look without saying anything.
    changed = true;
  }
  // A fleet that was not there yet when the page was opened is given a moment to assemble.
  if (!framed && total > 0) firstAt ??= now;
  if (!framed && firstAt !== null && now - firstAt > ASSEMBLE_MS) frameFirst();
  alarms.show();
  if (selected) detail.show(selected, following);
}

const CONNECTION = { live: "Live", connecting: "Connecting", closing: "Restarting", lost: "Not connected" };

function showConnection(state, waitMs) {
  // A reconnect that fails at once must not flicker between two words.
  if (state === "connecting" && element("connection").dataset.state === "lost") return;
  element("connection").dataset.state = state;
  const wait = waitMs > 1500 ? `, again in ${spanText(waitMs)}` : "";
  element("connection").firstElementChild.textContent = CONNECTION[state] + wait;
}

const named = new Set();
const loaded = loadRoads();

async function loadRoads() {
  if (!roads.expected) return;
  const answer = await fetch("/v1/roads");
  if (!answer.ok) return;
  const graph = await answer.json();
  roads.build(graph);
  element("attribution").textContent = `Roads: ${graph.attribution.replace(/^\(c\)/i, "©")}`;
  frameFirst();
  atOnce = true;
}
loaded.catch((error) => console.warn(`cannot draw the roads: ${error.message}`));

new Stream({
  snapshot(tracks, first, more) {
    if (first) named.clear();
    tracks.forEach(({ device }) => named.add(device));
    fleet.hear(tracks, false, still());
    changed = true;
    if (more) return;
    fleet.keepOnly(named);
    if (selected && !named.has(selected.device)) select(null);
    alarms.load();
    frameFirst();
  },
  tracks(tracks) {
    fleet.hear(tracks, true, still());
    alarms.check(tracks);
    changed = true;
  },
  alarm(alarm) {
    alarms.hear(alarm);
    fleet.alarm(alarm, alarms.isOpen(alarm.device, alarm.kind));
    changed = true;
  },
  state: showConnection,
});

map.on("click", ({ containerPoint }) => select(vehicles.pick(view(map), containerPoint, REACH_PX)));
map.on("mousemove", ({ containerPoint }) => {
  const under = vehicles.pick(view(map), containerPoint, REACH_PX);
  if (under === hovered) return;
  hovered = under;
  map.getContainer().classList.toggle("over-vehicle", !!under);
  atOnce = true;
});
for (const touch of ["pointerdown", "wheel", "keydown"]) {
  map.getContainer().addEventListener(touch, () => { framed = true; }, { passive: true });
}
map.on("mouseout", () => { hovered = null; atOnce = true; });
map.on("dragstart", () => {
  following = false;
  detail.show(selected, following);
});
element("fit").addEventListener("click", frameAll);

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input")) return;
  const act = { "/": () => search.focus(), f: frameAll, Escape: () => select(null) }[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

setInterval(showPanels, PANELS_MS);
requestAnimationFrame(draw);
