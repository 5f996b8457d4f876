// What a drawing is: a seed and choices. A choice is the number of a value (exclusive attributes), true or false (tags),
// or a list of numbers (vectors); an attribute without a choice is "any".

const page = JSON.parse(document.getElementById("page-data").textContent);

const copyOf = (drawing) => ({ seed: drawing.seed, choices: new Map(drawing.choices) });

// Return bit number i of packed bytes.
const bitOf = (bytes, i) => (bytes[i >> 3] >> (7 - (i & 7))) & 1;

// The labels of the dataset that the run kept: "any" takes what one of them has, so that it goes with what is chosen.
const dataset = (() => {
  const { count, dtype } = page.labels;
  const label = decodeBase64(page.labels.label);
  const known = decodeBase64(page.labels.known);
  const numbers = dtype === "bits" ? null : new DataView(label.buffer, label.byteOffset);
  const width = page.attributes.reduce((sum, attribute) => sum + attribute.width, 0);
  return {
    count,
    width,
    label: (row, entry) => {
      const i = row * width + entry;
      return numbers ? numbers.getFloat32(4 * i, true) : bitOf(label, i);
    },
    known: (row, attribute) => bitOf(known, row * page.attributes.length + attribute),
  };
})();

// Write the entries of a choice into a label.
function writeChoice(label, attribute, choice) {
  const entries = label.subarray(attribute.start, attribute.start + attribute.width);
  entries.fill(0);
  if (attribute.kind === "exclusive") entries[choice] = 1;
  else if (attribute.kind === "tag") entries[0] = choice ? 1 : 0;
  else entries.set(choice);
}

// Return the value of a row: the number of an exclusive value, 1 or 0 (tags), undefined if unknown or a vector.
function valueOf(row, a) {
  const { kind, start, width } = page.attributes[a];
  if (!dataset.known(row, a)) return undefined;
  if (kind === "tag") return dataset.label(row, start) > 0.5 ? 1 : 0;
  if (kind !== "exclusive") return undefined;
  for (let value = 0; value < width; value++) if (dataset.label(row, start + value) > 0.5) return value;
  return undefined;
}

// Return, for each attribute, the set of values that are not seen with a choice, if that is hardly chance: as
// trainer/generation/co_occurrence.py.
const strangers = (() => {
  const remembered = new Map();
  return (a, choice) => {
    const key = `${a}:${Number(choice)}`;
    if (!remembered.has(key)) remembered.set(key, page.attributes.map((_, other) => unseen(a, Number(choice), other)));
    return remembered.get(key);
  };
})();

function unseen(a, choice, other) {
  const counts = new Map(); // of all labels, and of those with the choice
  for (let row = 0; row < dataset.count; row++) {
    const [mine, theirs] = [valueOf(row, a), valueOf(row, other)];
    if (mine === undefined || theirs === undefined) continue;
    const [times, together] = counts.get(theirs) ?? [0, 0];
    counts.set(theirs, [times + 1, together + (mine === choice ? 1 : 0)]);
  }
  const sum = (pairs, column) => pairs.reduce((total, pair) => total + pair[column], 0);
  const all = [...counts.values()];
  const seen = all.filter(([, together]) => together);
  const told = seen.length && (sum(seen, 0) / sum(all, 0)) ** sum(seen, 1) < 0.01;
  return new Set(told ? [...counts.keys()].filter((value) => !counts.get(value)[1]) : []);
}

// Return whether a row goes with the choices: none of its other values is a stranger to one of them.
function goesWith(row, choices) {
  const chosen = [...choices].filter(([a]) => page.attributes[a].kind !== "vector").map(([a, choice]) => strangers(a, choice));
  return page.attributes.every((_, other) => {
    const value = choices.has(other) ? undefined : valueOf(row, other);
    return value === undefined || !chosen.some((values) => values[other].has(value));
  });
}

// Return the row whose values the attributes at "any" take. A seed keeps its row unless the row does not go with the choices.
function rowOf({ seed, choices }) {
  const row = drawnRow(dataset.count, seed, page.purposes.labels);
  if (goesWith(row, choices)) return row;
  const rows = Array.from({ length: dataset.count }, (_, other) => other).filter((other) => goesWith(other, choices));
  return rows.length ? rows[drawnRow(rows.length, seed, page.purposes.labels)] : row;
}

// Return the label of a drawing and the mask of what it knows, as `cgan sample` makes them.
function labelOf(drawing) {
  const row = rowOf(drawing);
  const label = Float32Array.from({ length: dataset.width }, (_, entry) => dataset.label(row, entry));
  const known = Float32Array.from(page.attributes, (_, a) => dataset.known(row, a));
  for (const [a, choice] of drawing.choices) {
    writeChoice(label, page.attributes[a], choice);
    known[a] = 1;
  }
  return { label, known };
}

const noiseOf = (drawing) => normalNoise(drawing.seed, page.purposes.noise, page.noise);

const rounded = (number) => String(Number(number.toPrecision(4)));

// Return a choice in words: "blue hair", "no glasses", "size 0.5, 2".
function inWords(attribute, choice) {
  if (attribute.kind === "exclusive") return attribute.values[choice];
  if (attribute.kind === "tag") return choice ? attribute.values[0] : `no ${attribute.values[0]}`;
  return `${attribute.name} ${choice.map(rounded).join(", ")}`;
}

// Return the choice that a label shows; undefined if it is unknown.
function choiceIn({ label, known }, a) {
  const attribute = page.attributes[a];
  if (known[a] < 0.5) return undefined;
  const entries = [...label.subarray(attribute.start, attribute.start + attribute.width)];
  if (attribute.kind === "vector") return entries;
  if (attribute.kind === "tag") return entries[0] > 0.5;
  const value = entries.findIndex((entry) => entry > 0.5);
  return value < 0 ? undefined : value;
}

// Return what was asked for, and what was drawn by chance for the attributes left at "any"; absent tags go unmentioned.
function describe(drawing) {
  const label = labelOf(drawing);
  const asked = [];
  const chance = [];
  page.attributes.forEach((attribute, a) => {
    const choice = choiceIn(label, a);
    if (drawing.choices.has(a)) asked.push(inWords(attribute, drawing.choices.get(a)));
    else if (choice !== undefined && choice !== false && attribute.kind !== "vector") chance.push(inWords(attribute, choice));
  });
  return { asked, chance };
}

// Return a description as one sentence.
function sentence(drawing) {
  const { asked, chance } = describe(drawing);
  const parts = [asked.join(", "), chance.length ? `by chance ${chance.join(", ")}` : ""].filter(Boolean);
  return `${parts.join("; ") || "Anything"}. Noise ${drawing.seed}.`;
}
