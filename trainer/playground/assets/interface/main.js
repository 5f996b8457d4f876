// Brings the page together: one drawing, shown in one of three views, and its address.

const $ = (id) => document.getElementById(id);
const NEW_SEEDS = 1_000_000;

let current = { seed: 0, choices: new Map() };
let view = "draw"; // or "walk" or "grid"
document.documentElement.style.setProperty("--aspect", `${page.width} / ${page.height}`);
document.body.classList.toggle("transparent", page.channels === 4);
artist.prepare(page.program, decodeBase64($("page-weights").textContent));

const canvas = $("image");
const views = {
  draw: new DrawView(canvas),
  walk: new WalkView(canvas),
  grid: new GridView((drawing) => {
    showView("draw");
    set(drawing);
  }, () => set(current, "replace")),
};
const showControls = buildControls($("attributes"), (a, choice) => {
  const drawing = copyOf(current);
  if (choice === undefined) drawing.choices.delete(a);
  else drawing.choices.set(a, choice);
  set(drawing, "replace");
});

// Show a drawing everywhere; "push" makes a step that the browser's Back undoes, "replace" none, "keep" leaves the address.
function set(drawing, history = "push") {
  current = drawing;
  if (history !== "keep") remember(`${history}State`, addressOf(drawing));
  showControls(drawing);
  $("seed").value = drawing.seed;
  $("command").textContent = commandFor(drawing);
  $("command").parentElement.hidden = !commandFor(drawing);
  showWords(drawing);
  return views[view].show(drawing);
}

const addressOf = (drawing) => toAddress(drawing, view === "draw" ? {} : { view, ...views[view].address() });

// Write the address. A browser may refuse: Safari after 100 times in 30 seconds, others in some frames. The next change
// is written again, and drawing goes on.
function remember(method, address) {
  try {
    window.history[method](null, "", address);
  } catch (error) {
    if (error.name !== "SecurityError") throw error;
  }
}

function showWords(drawing) {
  const { asked, chance } = describe(drawing);
  const chip = (text, className) => element("span", { className, textContent: text });
  $("words").replaceChildren(
    ...asked.map((word) => chip(word, "chip asked")),
    ...chance.map((word) => chip(word, "chip")),
  );
  canvas.setAttribute("aria-label", `Drawing: ${sentence(drawing)}`);
  say(sentence(drawing));
}

// Tell a screen reader, once a slider has come to rest.
let speaking = 0;
function say(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => ($("status").textContent = text), 400);
}

function showView(name) {
  views[view].close?.();
  view = name;
  document.body.dataset.view = name;
  $(`view-${name}`).checked = true;
  for (const panel of ["walk", "grid"]) $(`${panel}-panel`).hidden = panel !== name;
}

const nextNoise = () => ({ ...copyOf(current), seed: Math.min(current.seed + 1, MAX_SEED) });

// Change the view as a person asks: a walk leads from this drawing to the next noise, until something else is chosen.
function changeView(name) {
  showView(name);
  if (name !== "walk") return set(current);
  views.walk.open(current);
  return set(nextNoise());
}

// Show what an address says.
function followAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  const asked = parts.get("view");
  showView(Object.hasOwn(views, asked) && !$(`view-${asked}`).disabled ? asked : "draw");
  views[view].restore?.(parts);
  return set(fromAddress(location.hash), "keep");
}

async function share() {
  const url = new URL(addressOf(current), location.href).href; // the address may be that of an earlier drawing
  try {
    if (navigator.share) return await navigator.share({ title: document.title, url });
    await navigator.clipboard.writeText(url);
    return toast("The link to this drawing is copied.");
  } catch (error) {
    return error.name === "AbortError" ? undefined : toast(url);
  }
}

function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  say(text);
  setTimeout(() => ($("toast").hidden = true), 4000);
}

function save() {
  const rows = views[view].saved();
  const longer = Math.max(page.width, page.height);
  const target = $("large").checked ? (rows.length > 1 ? 128 : 512) : longer;
  const scale = Math.max(1, Math.round(target / longer));
  const { asked, chance } = describe(current);
  download(sheet(rows, scale, scale > 1 && !$("pixels").checked), [...asked, ...chance, current.seed].join(" "));
}

$("another").addEventListener("click", () => set(nextNoise()));
$("surprise").addEventListener("click", () => set({ seed: Math.floor(Math.random() * NEW_SEEDS), choices: new Map() }));
$("clear").addEventListener("click", () => set({ seed: current.seed, choices: new Map() }));
$("seed").addEventListener("change", () => set({ ...copyOf(current), seed: valid.seed($("seed").value) }));
$("pixels").addEventListener("change", () => document.body.classList.toggle("pixels", $("pixels").checked));
$("save").addEventListener("click", save);
$("share").addEventListener("click", share);
for (const name of Object.keys(views)) $(`view-${name}`).addEventListener("change", () => changeView(name));
window.addEventListener("popstate", followAddress);
if (!views.grid.columns.length) {
  $("view-grid").disabled = true; // nothing can be varied
  $("view-grid").parentElement.hidden = true;
}

followAddress().then(() => selfTest(location.hash));
