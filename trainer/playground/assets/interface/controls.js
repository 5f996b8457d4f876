// The words as controls: a menu for an exclusive attribute, a three-way switch for a tag, sliders for numbers.
// Text from the dataset is only ever set as text.

const MANY = 12; // attributes, above which a field to search them appears

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Each maker returns {node, show(choice)} and calls change(choice); undefined is "any".
const makers = {
  exclusive(attribute, id, change) {
    const menu = element("select", { id }, element("option", { value: "", textContent: "any" }));
    attribute.values.forEach((value, v) => menu.append(element("option", { value: v, textContent: value })));
    menu.addEventListener("change", () => change(menu.value === "" ? undefined : Number(menu.value)));
    const node = element("div", { className: "attribute" }, element("label", { htmlFor: id, textContent: attribute.name }), menu);
    return { node, show: (choice) => (menu.value = choice ?? "") };
  },

  tag(attribute, id, change) {
    const options = [["yes", true], ["no", false], ["any", undefined]].map(([text, choice]) => {
      const radio = element("input", { type: "radio", name: id });
      radio.addEventListener("change", () => change(choice));
      return { choice, radio, label: element("label", {}, radio, element("span", { textContent: text })) };
    });
    const switches = element("div", { className: "switch" }, ...options.map(({ label }) => label));
    const node = element("fieldset", { className: "attribute" }, element("legend", { textContent: attribute.values[0] }), switches);
    return { node, show: (choice) => options.forEach((o) => (o.radio.checked = o.choice === choice)) };
  },

  vector(attribute, id, change) {
    const any = element("input", { type: "checkbox" });
    const sliders = attribute.range.map(([low, high], i) => {
      const slider = element("input", { type: "range", min: low, max: high, step: "any", id: `${id}-${i}` });
      const name = attribute.range.length > 1 ? `${attribute.name} ${i + 1}` : attribute.name;
      slider.setAttribute("aria-label", name);
      slider.addEventListener("input", () => {
        any.checked = false;
        tell();
      });
      return slider;
    });
    const shown = element("output", {});
    const numbers = () => sliders.map((slider) => Number(rounded(Number(slider.value)))); // as the address has them
    const tell = () => {
      shown.textContent = any.checked ? "" : numbers().join(", ");
      change(any.checked ? undefined : numbers());
    };
    any.addEventListener("change", tell);
    const head = element("div", { className: "numbers" }, shown, element("label", {}, any, " any"));
    const node = element("fieldset", { className: "attribute wide" }, element("legend", { textContent: attribute.name }), head, ...sliders);
    const show = (choice) => {
      any.checked = choice === undefined;
      shown.textContent = choice ? choice.map(rounded).join(", ") : "";
      choice?.forEach((number, i) => (sliders[i].value = number));
    };
    return { node, show };
  },
};

// Build all controls into a form; `change(attribute, choice)` hears what a person chooses. Returns show(drawing).
function buildControls(form, change) {
  const shown = page.attributes.flatMap((attribute, a) => {
    if (attribute.kind === "vector" && !attribute.range) return []; // too many numbers for sliders: always "any"
    const control = makers[attribute.kind](attribute, `attribute-${a}`, (choice) => change(a, choice));
    form.append(control.node);
    return [{ a, text: [attribute.name, ...attribute.values].join(" ").toLowerCase(), ...control }];
  });
  const search = document.getElementById("search");
  search.parentElement.hidden = shown.length <= MANY;
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    for (const control of shown) control.node.hidden = !control.text.includes(wanted);
  });
  return (drawing) => shown.forEach((control) => control.show(drawing.choices.get(control.a)));
}
