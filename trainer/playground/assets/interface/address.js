// A drawing in the address of the page: #seed=7&words=blue+hair,long+hair&without=glasses&vector.size=0.5,2
// Other views add view=walk and from=…, the address of the walk's start, or view=grid and over=…, the attribute.
// Whatever an address holds that this page does not know is ignored.

const MAX_SEED = 2 ** 53 - 1;
const VECTOR = "vector.";

function toAddress(drawing, more = {}) {
  const parts = new URLSearchParams({ seed: drawing.seed });
  const [words, without] = [[], []];
  for (const [a, choice] of [...drawing.choices].sort(([x], [y]) => x - y)) {
    const attribute = page.attributes[a];
    if (attribute.kind === "vector") parts.set(VECTOR + attribute.name, choice.map(rounded).join());
    else if (choice === false) without.push(attribute.values[0]);
    else words.push(inWords(attribute, choice));
  }
  if (words.length) parts.set("words", words.join());
  if (without.length) parts.set("without", without.join());
  for (const [name, value] of Object.entries(more)) parts.set(name, value);
  return `#${parts}`.replaceAll("%2C", ",");
}

const valid = {
  seed: (text) => (/^\d+$/.test(text) ? Math.min(Number(text), MAX_SEED) : 0),
  numbers: (text, width) => {
    const numbers = text.split(",").map(Number);
    return numbers.length === width && numbers.every(Number.isFinite) ? numbers : undefined;
  },
};

function fromAddress(address) {
  const parts = new URLSearchParams(address.replace(/^#/, ""));
  const listed = (name) => new Set((parts.get(name) ?? "").split(","));
  const [words, without] = [listed("words"), listed("without")];
  const choices = new Map();
  page.attributes.forEach((attribute, a) => {
    const value = attribute.values.findIndex((word) => words.has(word));
    const numbers = attribute.kind === "vector" && valid.numbers(parts.get(VECTOR + attribute.name) ?? "", attribute.width);
    if (attribute.kind === "exclusive" && value >= 0) choices.set(a, value);
    if (attribute.kind === "tag" && value >= 0) choices.set(a, true);
    else if (attribute.kind === "tag" && without.has(attribute.values[0])) choices.set(a, false);
    if (numbers) choices.set(a, numbers);
  });
  return { seed: valid.seed(parts.get("seed") ?? ""), choices };
}

// Return the command that draws the same image; a vector's numbers are a phrase of their own, without other words.
function commandFor(drawing) {
  const phrases = [...drawing.choices].sort(([x], [y]) => x - y).map(([a, choice]) =>
    page.attributes[a].kind === "vector" ? choice.map(rounded).join(",") : inWords(page.attributes[a], choice));
  const mixed = phrases.length > 1 && [...drawing.choices.keys()].some((a) => page.attributes[a].kind === "vector");
  if (mixed) return "";
  const quoted = `'${(phrases.join(", ") || "anything").replaceAll("'", "'\\''")}'`;
  return `cgan sample RUN ${quoted} --seed ${drawing.seed} --count 1`;
}
