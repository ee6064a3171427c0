// The live stream: connects, hands on messages, and comes back after a loss, later each time.

const RETRY_FIRST_MS = 250;
const RETRY_MAX_MS = 10_000;

export class Stream {
  // `handlers`: snapshot(tracks, first, more), tracks(tracks), alarm(alarm), state(name, retryInMs).
  constructor(handlers) {
    this.handlers = handlers;
    this.retry = RETRY_FIRST_MS;
    this.timer = null;
    this.connect();
    // A laptop that wakes up or a network that returns need not wait for the timer.
    const hurry = () => this.timer !== null && this.connect();
    addEventListener("online", hurry);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && hurry());
  }

  connect() {
    clearTimeout(this.timer);
    this.timer = null;
    this.handlers.state("connecting");
    const url = new URL("/v1/stream", location.href);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    let first = true;
    let closing = false;
    const socket = new WebSocket(url);
    socket.addEventListener("message", (event) => {
      const message = JSON.parse(event.data);
      switch (message.type) {
        case "snapshot":
          this.handlers.snapshot(message.tracks, first, message.more);
          first = false;
          if (!message.more) {
            this.retry = RETRY_FIRST_MS;
            this.handlers.state("live");
          }
          break;
        case "tracks": this.handlers.tracks(message.tracks); break;
        case "alarm": this.handlers.alarm(message.alarm); break;
        case "closing": closing = true; break;
      }
    });
    socket.addEventListener("close", () => {
      // Jitter, so that a hundred open pages do not all come back in the same instant.
      const wait = this.retry * (0.5 + Math.random());
      this.retry = Math.min(this.retry * 2, RETRY_MAX_MS);
      this.handlers.state(closing ? "closing" : "lost", wait);
      this.timer = setTimeout(() => this.connect(), wait);
    });
  }
}
