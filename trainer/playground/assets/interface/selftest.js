// What the tests ask for with #selftest=COUNT: the drawings of the first seeds, with the words of the address if there
// are any. The page then holds their pixels as base64, red, green, blue and what an image has of alpha, and the median
// time of one.

async function selfTest(address) {
  const parts = new URLSearchParams(address.replace(/^#/, ""));
  if (!parts.has("selftest")) return;
  const { choices } = fromAddress(address);
  const times = [];
  const pixels = [];
  for (let seed = 0; seed < Number(parts.get("selftest")); seed++) {
    const began = performance.now();
    const drawn = await artist.drawing({ seed, choices });
    times.push(performance.now() - began);
    drawn.forEach((value, i) => (i % 4 < 3 || page.channels === 4) && pixels.push(value));
  }
  const text = pixels.map((value) => String.fromCharCode(value)).join("");
  const median = times.sort((a, b) => a - b)[times.length >> 1];
  const result = { pixels: btoa(text), milliseconds: Number(median.toFixed(1)), count: times.length };
  document.body.append(element("pre", { id: "selftest", hidden: true, textContent: JSON.stringify(result) }));
  console.log(`self-test: ${times.length} images, ${result.milliseconds} ms each (median)`);
}
