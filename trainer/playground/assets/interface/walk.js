// The walk from one drawing to another: through the noise, the words, or both.

const FRAMES = 7; // of the strip below the slider

// Interpolate spherically: a straight line would pass through vectors much shorter than noise (White 2016, arXiv 1609.04468).
function slerp(a, b, t) {
  const length = (v) => Math.sqrt(v.reduce((total, x) => total + x * x, 0));
  const [p, q] = [length(a), length(b)];
  const cosine = a.reduce((total, x, i) => total + x * b[i], 0) / (p * q);
  const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (!(Math.sin(angle) > 1e-4)) return lerp(a, b, t);
  const both = [Math.sin((1 - t) * angle), Math.sin(t * angle)].map((x) => (x * (p + t * (q - p))) / Math.sin(angle));
  return a.map((x, i) => (both[0] * x) / p + (both[1] * b[i]) / q);
}

const lerp = (a, b, t) => a.map((x, i) => (1 - t) * x + t * b[i]);

class WalkView {
  constructor(canvas) {
    this.canvas = canvas;
    this.newest = new Newest();
    this.strip = new Newest();
    this.slider = document.getElementById("walk-place");
    this.play = document.getElementById("walk-play");
    this.frames = Array.from({ length: FRAMES }, (_, i) => this.frame(i / (FRAMES - 1)));
    document.getElementById("walk-strip").append(...this.frames.map(({ button }) => button));
    this.slider.addEventListener("input", () => this.showPlace());
    for (const radio of document.getElementsByName("walk-through")) radio.addEventListener("change", () => this.show(this.end));
    this.play.addEventListener("click", () => this.setPlaying(!this.playing));
    document.getElementById("walk-start").addEventListener("click", () => this.open(this.end));
  }

  frame(t) {
    const canvas = element("canvas");
    const button = element("button", { type: "button", className: "cell" }, canvas);
    button.setAttribute("aria-label", `${Math.round(100 * t)} % of the way`);
    button.addEventListener("click", () => {
      this.slider.value = t;
      this.showPlace();
    });
    return { t, canvas, button };
  }

  // Start at a drawing; the end has the next noise, until something else is chosen.
  open(drawing) {
    this.start = copyOf(drawing);
    this.slider.value = 0.5;
  }

  address() {
    return { from: toAddress(this.start).slice(1) };
  }

  restore(parts) {
    this.open(fromAddress(parts.get("from") ?? ""));
  }

  close() {
    this.setPlaying(false);
  }

  // Walk to a drawing.
  show(drawing) {
    this.end = copyOf(drawing);
    document.getElementById("walk-from").textContent = sentence(this.start);
    document.getElementById("walk-to").textContent = sentence(this.end);
    this.strip.start(async (signal) => {
      for (const { t, canvas } of this.frames) paint(canvas, await this.at(t, signal));
    });
    return this.showPlace();
  }

  showPlace() {
    const t = Number(this.slider.value);
    this.slider.setAttribute("aria-valuetext", `${Math.round(100 * t)} % of the way`);
    return this.newest.start(async (signal) => paint(this.canvas, await this.at(t, signal)));
  }

  // Return the pixels at a place between 0, the start, and 1, the end.
  at(t, signal) {
    const through = document.querySelector('[name="walk-through"]:checked').value;
    const [from, to] = [labelOf(this.start), labelOf(this.end)];
    const words = through === "noise" ? 0 : t;
    const noise = through === "words" ? 0 : t;
    const label = { label: lerp(from.label, to.label, words), known: lerp(from.known, to.known, words) };
    return artist.draw(slerp(noiseOf(this.start), noiseOf(this.end), noise), label, signal);
  }

  // Go to and fro until stopped.
  async setPlaying(playing) {
    this.playing = playing && {}; // one object for each time that Play is pressed: an earlier loop ends
    this.play.textContent = playing ? "Stop" : "Play";
    const own = this.playing;
    const start = performance.now() - 4000 * Number(this.slider.value);
    while (own && own === this.playing) {
      const turn = ((performance.now() - start) / 4000) % 2;
      this.slider.value = turn < 1 ? turn : 2 - turn;
      await this.showPlace();
      await new Promise(requestAnimationFrame);
    }
  }

  saved() {
    return [[this.canvas]];
  }
}
