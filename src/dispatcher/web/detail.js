// The card of the selected vehicle.

import { compassText, kindText, placeText, spanText } from "./text.js";

const element = (id) => document.getElementById(id);

export class Detail {
  constructor(fleet, { onClose, onFollow }) {
    this.fleet = fleet;
    this.card = element("detail");
    element("detail-close").addEventListener("click", onClose);
    element("detail-follow").addEventListener("click", onFollow);
  }

  // Shows a vehicle, or nothing.
  show(vehicle, following) {
    this.card.hidden = !vehicle;
    document.body.classList.toggle("has-detail", !!vehicle);
    if (!vehicle) return;
    const { track } = vehicle;
    element("detail-device").textContent = track.device;
    this.card.querySelector(".glyph").dataset.state = vehicle.state;
    element("detail-speed").textContent = track.speed_mps === undefined ? "–" : Math.round(track.speed_mps * 3.6);
    const course = track.course_deg;
    element("detail-heading").textContent = course === undefined ? "" : `${compassText(course)} ${Math.round(course)}°`;
    const chips = track.alarms.map((kind) => {
      const chip = document.createElement("li");
      chip.textContent = kindText(kind);
      return chip;
    });
    element("detail-alarms").replaceChildren(...chips);
    element("detail-alarms").hidden = chips.length === 0;
    this.facts(vehicle);
    const follow = element("detail-follow");
    follow.setAttribute("aria-pressed", following);
    follow.textContent = following ? "Following" : "Follow";
  }

  facts(vehicle) {
    const { track } = vehicle;
    const facts = [
      ["State", { alarm: "in alarm" }[vehicle.state] ?? vehicle.state],
      ["Heard", `${spanText(this.fleet.age(vehicle))} ago`],
      ["Fix", track.time ? `${track.time.slice(11, 19)} UTC` : "no time"],
      ["Place", track.lat === undefined ? "not known" : placeText(track.lat, track.lon)],
      ["Altitude", track.altitude_m === undefined ? null : `${Math.round(track.altitude_m)} m`],
      ["Quality", track.valid ? null : "not valid"],
      ["Sensor", track.sensor],
    ].filter(([, value]) => value);
    element("detail-facts").replaceChildren(...facts.flatMap(([name, value]) => {
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }));
  }
}
