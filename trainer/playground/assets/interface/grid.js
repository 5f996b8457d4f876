// The grid over one attribute: a column for each value, a row for each of a few noises.

const ROWS = 4;
const STEPS = 7; // columns of a number's range

class GridView {
  // pick(drawing) is called for a drawing that is pressed, and change() when another attribute is varied.
  constructor(pick, change) {
    this.pick = pick;
    this.newest = new Newest();
    this.menu = document.getElementById("grid-attribute");
    this.table = document.getElementById("grid-table");
    this.columns = page.attributes.flatMap((attribute, a) => this.columnsOf(attribute, a));
    this.columns.forEach(({ name }, i) => this.menu.append(element("option", { value: i, textContent: name })));
    this.menu.addEventListener("change", change);
  }

  // Return what an attribute can be varied over: [{name, a, choices: drawing -> list}].
  columnsOf(attribute, a) {
    if (attribute.kind === "exclusive") return [{ name: attribute.name, a, choices: () => attribute.frequent }];
    if (attribute.kind === "tag") return [{ name: attribute.values[0], a, choices: () => [false, true] }];
    return (attribute.range ?? []).map(([low, high], i) => ({
      name: attribute.range.length > 1 ? `${attribute.name} ${i + 1}` : attribute.name,
      a,
      choices: (drawing) => {
        const entries = [...labelOf(drawing).label.subarray(attribute.start, attribute.start + attribute.width)];
        const base = drawing.choices.get(a) ?? entries;
        return Array.from({ length: STEPS }, (_, s) =>
          base.with(i, low + (s / (STEPS - 1)) * (high - low)).map((number) => Number(rounded(number))));
      },
    }));
  }

  address() {
    return { over: this.columns[Number(this.menu.value)].name };
  }

  restore(parts) {
    const column = this.columns.findIndex(({ name }) => name === parts.get("over"));
    this.menu.value = Math.max(0, column);
  }

  show(drawing) {
    const { a, choices } = this.columns[Number(this.menu.value)];
    const attribute = page.attributes[a];
    const chosen = choices(drawing);
    this.cells = Array.from({ length: ROWS }, (_, r) =>
      chosen.map((choice) => {
        const varied = { seed: drawing.seed + r, choices: new Map(drawing.choices).set(a, choice) };
        return { varied, canvas: element("canvas") };
      }));
    const titles = chosen.map((choice) => inWords(attribute, choice));
    this.table.replaceChildren(this.head(titles), this.body(titles));
    return this.newest.start(async (signal) => {
      for (const { varied, canvas } of this.cells.flat()) paint(canvas, await artist.drawing(varied, signal));
    });
  }

  head(titles) {
    return element("thead", {}, element("tr", {}, ...titles.map((textContent) => element("th", { scope: "col", textContent }))));
  }

  body(titles) {
    const rows = this.cells.map((row) =>
      element("tr", {}, ...row.map(({ varied, canvas }, c) => {
        const button = element("button", { type: "button", className: "cell" }, canvas);
        button.setAttribute("aria-label", `${titles[c]}, noise ${varied.seed}: draw it large`);
        button.addEventListener("click", () => this.pick(varied));
        return element("td", {}, button);
      })));
    return element("tbody", {}, ...rows);
  }

  saved() {
    return this.cells.map((row) => row.map(({ canvas }) => canvas));
  }
}
