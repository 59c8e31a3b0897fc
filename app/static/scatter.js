// Points, regions or pictures as dots, a plane for each network; what is marked in one is marked in all, and in the
// pictures.
//
// plrc.scatter(element, emit) → {show(scene)}. A scene:
//   kind       "points", "regions" or "images": what the items are
//   pictures   [{src, width, height, name}]: what items lie in; src is a thumbnail, width and height are its sides
//   items      {image: [k], box: [[x0, y0, x1, y1]]}: each item's picture, and what it covers of it, in [0, 1]
//   groupings  [{name: "class", names: ["disc", …], of: [0, …]}]: ways to colour, each item's category in each
//   colour     the name of the grouping that is used
//   planes     [{name, caption, coordinates: [[a, b]]}]: one for each network, of the same items
//   note       a sentence for when nothing is marked
//   key        two scenes of one key are the same; may be missing
// emit gets {kind: "select", indices} when items were marked, {kind: "colour", colour} when a grouping was chosen.
window.plrc = window.plrc || {};

plrc.scatter = function (element, emit) {
  // Okabe and Ito's, as plrc.figures.style.CATEGORIES; their black is white on a dark page.
  const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8c6d31", "#1a1a1a"];
  const LIGHT = "#f0f0f0", OTHER = { colour: "#949494", shape: 0, edge: "white" };
  const MARKS = COLOURS.length * plrc.scatterPlane.SHAPES;

  const make = (tag, parent, has = {}) => Object.assign(parent.appendChild(document.createElement(tag)), has);
  const root = make("div", element, { className: "plrc-scatter" });
  make("style", root, { textContent: plrc.scatterStyle });
  const bar = make("div", root, { className: "bar" });
  const colourBy = make("select", make("label", bar, { textContent: "Colour by " }));
  const showPicture = make("select", make("label", bar, { textContent: "Mark all of " }));
  const clear = make("button", bar, { type: "button", textContent: "Clear marks" });
  const body = make("div", root, { className: "body" });
  const row = make("div", body, { className: "planes" });
  const legend = make("div", body, { className: "legend", role: "group", ariaLabel: "Legend" });
  const status = make("p", root, { className: "status", role: "status" });
  const pictures = plrc.scatterPictures(root, { hover: (item) => hover(item, null, false), pick });
  const spoken = make("div", root, { className: "spoken", ariaLive: "polite" });

  let scene = null, planes = [], grouping = null, look = null;
  let selected = new Set(), only = new Set(); // items; categories, empty when all are shown
  let hovered = -1;

  const count = (n, noun) => `${n} ${n === 1 ? noun.replace(/s$/, "") : noun}`;
  const styleOf = (category) => (category >= MARKS - 1 && grouping.names.length > MARKS
    ? OTHER : styled(colourOf(category % COLOURS.length), Math.floor(category / COLOURS.length)));
  const styled = (colour, shape) => ({ colour, shape, edge: colour === LIGHT ? "black" : "white" }); // edge: in pictures
  const colourOf = (i) => (i === COLOURS.length - 1 && dark() ? LIGHT : COLOURS[i]);
  const dark = () => {
    const [r, g, b] = (getComputedStyle(root).backgroundColor.match(/[\d.]+/g) || [255, 255, 255]).map(Number);
    return r + g + b < 384;
  };
  const toldOf = (item) => scene.groupings // its picture is named anyway
    .filter((g) => g.name !== "picture").map((g) => `${g.name}: ${g.names[g.of[item]]}`);

  // --- colours, shapes and the legend

  function recolour() {
    const n = scene.items.image.length, of = grouping ? grouping.of : new Array(n).fill(0);
    const sizes = new Map();
    of.forEach((category) => sizes.set(category, (sizes.get(category) || 0) + 1));
    const shared = grouping && grouping.names.length > MARKS; // the last mark is then that of all the others
    const mark = (category) => (shared ? Math.min(category, MARKS - 1) : category);
    const marks = grouping ? Math.min(grouping.names.length, MARKS) : 1;
    const styles = Array.from({ length: marks }, (_, i) => (grouping ? styleOf(i) : styled(COLOURS[0], 0)));
    look = {
      styles,
      of: of.map(mark),
      shown: of.map((category) => !only.size || only.has(mark(category))),
      order: [...of.keys()].sort((i, j) => sizes.get(of[j]) - sizes.get(of[i]) || i - j), // the rarer, the further up
      radius: Math.min(5.5, Math.max(2.4, 115 / Math.sqrt(n))),
      paper: getComputedStyle(root).backgroundColor,
      ink: getComputedStyle(root).color,
    };
    planes.forEach((plane) => plane.paint(look));
    drawLegend();
    pictures.mark(look, selected, hovered);
    tell();
  }

  function drawLegend() {
    const focus = [...legend.querySelectorAll("button")].indexOf(document.activeElement), scroll = legend.scrollTop;
    legend.replaceChildren();
    legend.hidden = !grouping;
    if (!grouping) return;
    make("div", legend, { className: "title", textContent: grouping.name });
    const sizes = new Array(look.styles.length).fill(0);
    look.of.forEach((mark) => sizes[mark]++);
    const others = grouping.names.length - look.styles.length + 1; // categories that the last mark stands for
    look.styles.forEach((style, i) => {
      const button = make("button", legend, { type: "button", ariaPressed: String(only.has(i)) });
      const context = plrc.scatterPlane.size(make("canvas", button), 14, 14);
      plrc.scatterPlane.marker(context, style, 7, 7, 4.5, look.paper, 0.6);
      const name = others > 1 && i === look.styles.length - 1 ? `${others} others` : grouping.names[i];
      make("span", button, { textContent: name, className: "name", title: name });
      make("span", button, { textContent: sizes[i], className: "number" });
      button.onclick = () => {
        if (!only.delete(i)) only.add(i);
        recolour();
      };
    });
    if (others > 1) {
      const own = `${MARKS - 1} of ${grouping.names.length} have a mark of their own`;
      make("div", legend, { className: "hint", textContent: `Only ${own}; the others share a grey dot.` });
    }
    const hint = only.size ? "Click again to show all." : "Click to show only one.";
    make("div", legend, { className: "hint", textContent: hint });
    legend.scrollTop = scroll;
    if (focus >= 0) legend.querySelectorAll("button")[focus]?.focus();
  }

  // --- what is marked and hovered

  function select(items) {
    selected = new Set(items);
    planes.forEach((plane) => plane.mark(hovered, selected));
    showPicture.value = "";
    pictures.mark(look, selected, hovered);
    tell();
    emit({ kind: "select", indices: [...selected].sort((i, j) => i - j) });
  }

  function pick(items, how) {
    if (how === "replace") return select(items);
    const next = new Set(selected);
    items.forEach((item) => (how === "toggle" && next.has(item) ? next.delete(item) : next.add(item)));
    select(next);
  }

  function hover(item, plane, speak) {
    if (item !== hovered) {
      hovered = item;
      planes.forEach((each) => each.mark(hovered, selected));
      pictures.hover(item, plane, item < 0 ? [] : toldOf(item));
    }
    if (speak) {
      const name = scene.pictures[scene.items.image[item]].name;
      spoken.textContent = [name, ...toldOf(item), ...(selected.has(item) ? ["marked"] : [])].join(", ");
    }
  }

  function tell() {
    const n = scene.items.image.length;
    clear.disabled = !selected.size;
    if (!selected.size) {
      status.textContent = `${count(n, scene.kind)}. ${scene.note || ""}`;
      return;
    }
    const sizes = new Map();
    if (grouping) selected.forEach((i) => sizes.set(grouping.of[i], (sizes.get(grouping.of[i]) || 0) + 1));
    const sorted = [...sizes].sort((a, b) => b[1] - a[1]), most = sorted.slice(0, 5);
    const parts = most.map(([category, size]) => `${grouping.names[category]} (${size})`);
    if (sorted.length > most.length) parts.push(`${sorted.length - most.length} more`);
    const places = new Set([...selected].map((i) => scene.items.image[i])).size;
    const of = parts.length && grouping.name !== "picture" ? `, by ${grouping.name}: ${parts.join(", ")}` : "";
    status.textContent = `${selected.size} of ${count(n, scene.kind)} marked, in ${count(places, "pictures")}${of}.`;
  }

  // --- the scene

  function show(next) {
    if (scene && next && next.key && next.key === scene.key) return; // the view was left and is back: marks stay
    [scene, hovered, selected, only, planes] = [next, -1, new Set(), new Set(), []];
    [row, legend, colourBy, showPicture].forEach((part) => part.replaceChildren());
    root.classList.toggle("empty", !scene || !scene.planes);
    if (!scene || !scene.planes) {
      status.textContent = (scene && scene.note) || "";
      scene = null;
      pictures.show(null);
      return;
    }
    pictures.show(scene);
    grouping = scene.groupings.find((g) => g.name === scene.colour) || scene.groupings[0] || null;
    scene.groupings.forEach(({ name }) => make("option", colourBy, { textContent: name, value: name }));
    if (grouping) colourBy.value = grouping.name;
    colourBy.parentElement.hidden = scene.groupings.length < 2;
    make("option", showPicture, { textContent: "a picture …", value: "" });
    scene.pictures.forEach(({ name }, k) => make("option", showPicture, { textContent: name, value: k }));
    // All planes are as high as the one that needs most, but no square is exceeded; as in the printed figure.
    const flat = scene.planes.map(({ coordinates }) => {
      const [across, up] = plrc.scatterPlane.spans(coordinates).map(([low, high]) => high - low);
      return across > 0 ? Math.min(1, Math.max(0.4, up / across)) : 1;
    });
    for (const { name, caption, coordinates } of scene.planes) {
      const figure = make("figure", row);
      make("figcaption", figure, { textContent: name });
      const frame = make("div", figure, { className: "plane" });
      make("figcaption", figure, { textContent: caption, className: "caption" });
      const plane = plrc.scatterPlane(frame, {
        hover: (item, speak) => hover(item, plane, speak), current: () => hovered, pick, clear: () => select([]),
      });
      const what = `${name}: ${count(coordinates.length, scene.kind)} as dots. ${caption}`;
      plane.canvas.setAttribute("aria-label", `${what}. Arrow keys go to the next dot, Enter marks it, Escape clears, ` +
        "plus and minus zoom.");
      plane.load(coordinates, Math.max(...flat));
      planes.push(plane);
    }
    recolour();
  }

  colourBy.onchange = () => {
    grouping = scene.groupings.find((g) => g.name === colourBy.value);
    only = new Set();
    recolour();
    emit({ kind: "colour", colour: grouping.name });
  };
  showPicture.onchange = () => {
    const k = showPicture.value;
    if (k === "") return;
    select(scene.items.image.flatMap((image, i) => (image === Number(k) ? [i] : [])));
    showPicture.value = k;
  };
  clear.onclick = () => select([]);
  // Colours of the page are drawn into canvases: again when it turns dark or light.
  const repaint = () => { if (scene) requestAnimationFrame(recolour); };
  new MutationObserver(repaint).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  return { show };
};
