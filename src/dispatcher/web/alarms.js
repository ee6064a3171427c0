// Open alarms: what is open, what just ended, and the panel that lists it.

import { kindText, spanText } from "./text.js";

const ROWS_MAX = 60;
const ENDED_SHOWN_MS = 8_000;
// What a device reports in passing is over at once; people need longer than that to see it.
const REPORTED_SHOWN_MS = 60_000;
const WEIGHT = { critical: 0, warning: 1, info: 2 };

const keyOf = ({ device, kind, rule }) => `${device}|${kind}|${rule}`;

export class Alarms {
  constructor(fleet, onPick) {
    this.fleet = fleet;
    this.onPick = onPick;
    this.entries = new Map();
    // Heard while the list of open ones is on its way.
    this.meanwhile = null;
    this.changed = true;
    this.panel = document.getElementById("alarms");
    this.list = document.getElementById("alarm-list");
    this.badge = document.getElementById("alarm-count");
    this.none = document.getElementById("alarm-none");
    this.news = document.getElementById("news");
    this.panel.open = matchMedia("(min-width: 721px)").matches;
  }

  // Asks for what is open; alarms heard until the answer is here are applied after it.
  async load() {
    this.meanwhile = [];
    try {
      const answer = await fetch("/v1/alarms");
      if (!answer.ok) return;
      const { alarms } = await answer.json();
      this.entries = new Map(alarms.map((alarm) => [keyOf(alarm), { alarm, endedAt: null, how: "open" }]));
    } catch {
      // The stream notices that the node is away, and this is asked again when it is back.
    } finally {
      const heard = this.meanwhile ?? [];
      this.meanwhile = null;
      heard.forEach((alarm) => this.apply(alarm));
      this.changed = true;
    }
  }

  hear(alarm) {
    this.meanwhile?.push(alarm);
    this.apply(alarm);
    if (alarm.phase === "raise" && !alarm.late && alarm.severity === "critical") {
      this.news.textContent = `${kindText(alarm.kind)}: ${alarm.device}`;
    }
  }

  apply(alarm) {
    const key = keyOf(alarm);
    if (alarm.late) return;
    if (alarm.phase === "raise") {
      this.entries.set(key, { alarm, endedAt: null, how: "open" });
    } else if (this.entries.has(key)) {
      this.end(this.entries.get(key), ENDED_SHOWN_MS, "ended");
    }
    this.changed = true;
  }

  // Whether an alarm of this kind is open for a device, by whatever rule.
  isOpen(device, kind) {
    const open = ({ alarm, endedAt }) => !endedAt && alarm.device === device && alarm.kind === kind;
    return [...this.entries.values()].some(open);
  }

  end(entry, shownMs, how) {
    entry.endedAt = performance.now() + shownMs;
    entry.how = how;
    this.changed = true;
  }

  // A track says which kinds are open; what it no longer names is over.
  check(tracks) {
    if (!this.entries.size) return;
    const heard = new Map(tracks.map((track) => [track.device, track]));
    for (const entry of this.entries.values()) {
      const track = heard.get(entry.alarm.device);
      if (!track || entry.endedAt || track.alarms.includes(entry.alarm.kind)) continue;
      const reported = entry.alarm.rule === "device";
      this.end(entry, reported ? REPORTED_SHOWN_MS : ENDED_SHOWN_MS, reported ? "reported" : "ended");
    }
  }

  // Brings the panel up to date; called a few times a second.
  show() {
    const now = performance.now();
    for (const [key, { endedAt }] of this.entries) if (endedAt && endedAt < now) this.entries.delete(key);
    const all = [...this.entries.values()];
    const open = all.filter((entry) => !entry.endedAt).length;
    this.badge.textContent = open;
    this.badge.toggleAttribute("data-none", open === 0);
    this.none.hidden = all.length > 0;
    document.title = open ? `(${open}) Ringway live map` : "Ringway live map";
    const ended = ({ how }) => how === "ended";
    all.sort((a, b) => ended(a) - ended(b) || WEIGHT[a.alarm.severity] - WEIGHT[b.alarm.severity]
      || b.alarm.start.localeCompare(a.alarm.start));
    this.rows(all.slice(0, ROWS_MAX), all.length - ROWS_MAX);
  }

  // Rows are kept and only refilled, so that focus and pointer stay on what they are on.
  rows(entries, beyond) {
    const have = new Map([...this.list.children].map((row) => [row.dataset.key, row]));
    const rows = entries.map((entry) => {
      const key = keyOf(entry.alarm);
      const row = have.get(key) ?? this.row(key, entry.alarm);
      this.fill(row, entry);
      return row;
    });
    if (beyond > 0) {
      const more = document.createElement("li");
      more.className = "more";
      more.textContent = `and ${beyond} more`;
      rows.push(more);
    }
    const same = rows.length === this.list.children.length && rows.every((row, at) => row === this.list.children[at]);
    if (same) return;
    const focused = document.activeElement;
    this.list.replaceChildren(...rows);
    if (this.list.contains(focused)) focused.focus({ preventScroll: true });
  }

  row(key, { device, kind, rule }) {
    const row = document.createElement("li");
    row.dataset.key = key;
    const button = document.createElement("button");
    button.type = "button";
    const [dot, title, since, where] = ["i", "b", "span", "small"].map((tag) => document.createElement(tag));
    title.textContent = kind === "geofence" ? `Inside ${rule}` : kindText(kind);
    since.className = "since";
    where.textContent = rule === "device" || rule === kind || kind === "geofence" ? device : `${device} · ${rule}`;
    button.append(dot, title, since, where);
    button.addEventListener("click", () => this.onPick(device));
    row.append(button);
    return row;
  }

  fill(row, { alarm, how }) {
    const button = row.firstChild;
    button.dataset.severity = alarm.severity;
    button.toggleAttribute("data-past", how === "ended");
    const since = spanText(this.fleet.since(alarm.start));
    const text = { open: since, ended: "ended", reported: `${since} ago` }[how];
    if (button.children[2].textContent !== text) button.children[2].textContent = text;
  }
}
