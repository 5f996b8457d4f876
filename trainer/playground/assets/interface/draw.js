// The view of one drawing: the large image.

const [SMALLEST, LARGEST] = [256, 480]; // of the longer side of the image on the page

class DrawView {
  constructor(canvas) {
    this.canvas = canvas;
    const longer = Math.max(page.width, page.height);
    canvas.style.maxWidth = `${(Math.min(LARGEST, Math.max(SMALLEST, 12 * longer)) * page.width) / longer}px`;
    this.newest = new Newest();
  }

  // Draw what was chosen.
  show(drawing) {
    return this.newest.start(async (signal) => paint(this.canvas, await artist.drawing(drawing, signal)));
  }

  saved() {
    return [[this.canvas]];
  }
}
