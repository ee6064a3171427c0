// Finding a vehicle by its name: the way to select one without a pointer.

const FOUND_MAX = 7;

export class Search {
  constructor(fleet, onPick) {
    this.fleet = fleet;
    this.onPick = onPick;
    this.input = document.getElementById("search");
    this.list = document.getElementById("found");
    this.found = [];
    this.at = 0;
    this.input.addEventListener("input", () => this.look());
    this.input.addEventListener("focus", () => this.look());
    this.input.addEventListener("blur", () => this.close());
    this.input.addEventListener("keydown", (event) => this.key(event));
    // Before the blur that would close the list.
    this.list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const device = event.target.closest("[data-device]")?.dataset.device;
      if (device) this.pick(device);
    });
  }

  look() {
    const text = this.input.value.trim().toLowerCase();
    this.found = [];
    this.at = 0;
    if (!text) return this.close();
    const later = [];
    for (const vehicle of this.fleet.vehicles.values()) {
      const at = vehicle.device.toLowerCase().indexOf(text);
      if (at === 0) this.found.push(vehicle);
      else if (at > 0 && later.length < FOUND_MAX) later.push(vehicle);
      if (this.found.length === FOUND_MAX) break;
    }
    this.found = [...this.found, ...later].slice(0, FOUND_MAX);
    this.show();
  }

  show() {
    const rows = this.found.map((vehicle, index) => {
      const row = document.createElement("li");
      const glyph = document.createElement("i");
      glyph.className = "glyph";
      glyph.dataset.state = vehicle.state;
      row.id = `found-${index}`;
      row.role = "option";
      row.dataset.device = vehicle.device;
      row.ariaSelected = String(index === this.at);
      row.append(glyph, vehicle.device);
      return row;
    });
    if (!rows.length) {
      const row = document.createElement("li");
      row.className = "nothing";
      row.textContent = "No such vehicle";
      rows.push(row);
    }
    this.list.replaceChildren(...rows);
    this.list.hidden = false;
    this.input.ariaExpanded = "true";
    if (this.found.length) this.input.setAttribute("aria-activedescendant", `found-${this.at}`);
    else this.input.removeAttribute("aria-activedescendant");
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.found.length) {
      this.at = (this.at + step + this.found.length) % this.found.length;
      this.show();
    } else if (event.key === "Enter" && this.found.length) {
      this.pick(this.found[this.at].device);
    } else if (event.key === "Escape") {
      this.input.value = "";
      this.close();
      this.input.blur();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  pick(device) {
    this.input.value = "";
    this.close();
    this.input.blur();
    this.onPick(device);
  }

  close() {
    this.found = [];
    this.list.hidden = true;
    this.input.ariaExpanded = "false";
    this.input.removeAttribute("aria-activedescendant");
  }

  focus() {
    this.input.focus();
    this.input.select();
  }
}
