// Drawing and saving images.

// Draws one image after another; who waits longest is next, and an image that is no longer wanted is skipped.
const artist = (() => {
  let program = null;
  let busy = Promise.resolve();
  return {
    prepare(content, bytes) {
      program = new Program(content, bytes);
    },
    // Return the pixels for noise and a label; rejects with an AbortError if `signal` aborts.
    draw(noise, { label, known }, signal) {
      const drawn = busy.then(async () => {
        signal?.throwIfAborted();
        return toPixels(await program.run(noise, label, known, signal));
      });
      busy = drawn.catch(() => {});
      return drawn;
    },
    drawing: (drawing, signal) => artist.draw(noiseOf(drawing), labelOf(drawing), signal),
  };
})();

// Keeps one piece of work going: a new piece ends the one before.
class Newest {
  start(work) {
    this.controller?.abort();
    const { signal } = (this.controller = new AbortController());
    return work(signal).catch((error) => {
      if (error.name !== "AbortError") throw error;
    });
  }
}

function paint(canvas, pixels) {
  canvas.width = page.width;
  canvas.height = page.height;
  canvas.getContext("2d").putImageData(new ImageData(pixels, page.width, page.height), 0, 0);
}

// Return canvases in rows as one, each magnified by a whole number; a smooth one looks as it does on the page.
function sheet(rows, scale, smooth) {
  const gap = rows.length * rows[0].length > 1 ? scale : 0;
  const [width, height] = [page.width * scale, page.height * scale];
  const result = document.createElement("canvas");
  [result.width, result.height] = [rows[0].length * (width + gap) - gap, rows.length * (height + gap) - gap];
  const context = result.getContext("2d");
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = "high";
  rows.forEach((row, y) =>
    row.forEach((canvas, x) => context.drawImage(canvas, x * (width + gap), y * (height + gap), width, height)));
  return result;
}

// Return a file name made of words: letters and digits of any language.
const fileName = (text) => `${text.replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "").slice(0, 80) || "drawing"}.png`;

function download(canvas, name) {
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = fileName(name);
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }, "image/png");
}
