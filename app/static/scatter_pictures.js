// The pictures of plrc.scatter: a card with the crop of a hovered item, and a strip of the pictures of marked items,
// in which items can be hovered and marked too.
window.plrc = window.plrc || {};

// hooks: hover(item or −1), pick(items, "toggle"). Items, boxes and pictures are those of the scene (scatter.js).
plrc.scatterPictures = function (root, hooks) {
  const MOST = 12; // pictures in the strip
  const WIDE = 150, CARD = 148; // CSS pixels, the longer side: of a picture in the strip, of the crop in the card
  const FRAME = 9; // an item that is smaller than so many gets its dot's marker, not a frame

  const make = (tag, parent, has = {}) => Object.assign(parent.appendChild(document.createElement(tag)), has);
  const strip = make("div", root, { className: "strip" });
  const card = make("div", root, { className: "card", ariaHidden: "true" });
  let scene = null, look = null, selected = new Set(), hovered = -1, shown = null; // shown: the card's plane and text
  const images = new Map(); // decoded when first drawn
  let members = []; // each picture's items

  function picture(k) {
    if (!images.has(k)) {
      const image = new Image();
      image.onload = () => {
        drawFigures([...strip.querySelectorAll("figure")].filter((figure) => figure.picture === k));
        drawCard();
      };
      image.src = scene.pictures[k].src;
      images.set(k, image);
    }
    return images.get(k);
  }

  // Draw a part (x0, y0, x1, y1) of a picture, so many CSS pixels wide. Gives a function that marks an item in it,
  // strength 0: there is one; 1: marked; 2: hovered.
  function drawPart(canvas, k, width, [x0, y0, x1, y1]) {
    const { width: w, height: h } = scene.pictures[k], image = picture(k);
    const height = Math.max(1, Math.round((width * (y1 - y0) * h) / ((x1 - x0) * w)));
    const context = plrc.scatterPlane.size(canvas, width, height);
    context.imageSmoothingQuality = "high";
    if (image.complete && image.naturalWidth) {
      const [across, down] = [image.naturalWidth, image.naturalHeight];
      context.drawImage(image, x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down, 0, 0, width, height);
    }
    return (item, strength) => {
      const [left, top, right, bottom] = scene.items.box[item];
      const [u0, u1] = [left, right].map((x) => ((x - x0) / (x1 - x0)) * width);
      const [v0, v1] = [top, bottom].map((y) => ((y - y0) / (y1 - y0)) * height);
      const style = look.styles[look.of[item]];
      if (Math.max(u1 - u0, v1 - v0) < FRAME) {
        const [radius, edge] = [[1.5, 0.5], [4, 1.4], [6, 1.8]][strength];
        plrc.scatterPlane.marker(context, style, (u0 + u1) / 2, (v0 + v1) / 2, radius, style.edge, edge);
        return;
      }
      const inset = [0.5, 2, 2.5][strength]; // so that the frames of neighbours lie beside each other
      const lines = [[[1, "#ffffff80"]], [[4, style.edge], [2.2, style.colour]], [[5, "white"], [3.4, "black"]]][strength];
      for (const [line, colour] of lines) {
        context.lineWidth = line;
        context.strokeStyle = colour;
        context.strokeRect(u0 + inset, v0 + inset, Math.max(1, u1 - u0 - 2 * inset), Math.max(1, v1 - v0 - 2 * inset));
      }
    };
  }

  // --- the card

  function drawCard() {
    card.style.display = shown ? "block" : "none";
    if (!shown) return;
    const { plane, told } = shown;
    const k = scene.items.image[hovered], [x0, y0, x1, y1] = scene.items.box[hovered];
    // A square of the picture around the item. A cell says little without what lies around it: a third of the picture
    // at least, or 1.5 times the item.
    const { width: w, height: h } = scene.pictures[k];
    const square = Math.max(Math.max(w, h) / 3, 1.5 * (x1 - x0) * w, 1.5 * (y1 - y0) * h);
    const around = (low, high, all) => {
      const side = Math.min(1, square / all), start = Math.min(1 - side, Math.max(0, (low + high - side) / 2));
      return [start, start + side];
    };
    const [[u0, u1], [v0, v1]] = [around(x0, x1, w), around(y0, y1, h)];
    const wide = Math.round(CARD * Math.min(1, ((u1 - u0) * w) / ((v1 - v0) * h)));
    card.replaceChildren();
    drawPart(make("canvas", card), k, wide, [u0, v0, u1, v1])(hovered, 1);
    make("b", card, { textContent: scene.pictures[k].name });
    told.forEach((textContent) => make("div", card, { textContent }));
    // Beside the dot, where there is room; always inside the component.
    const frame = root.getBoundingClientRect(), at = plane.canvas.getBoundingClientRect(), [x, y] = plane.place(hovered);
    const left = x + at.left - frame.left, top = y + at.top - frame.top;
    const wanted = left + 16 + card.offsetWidth <= root.clientWidth ? left + 16 : left - 16 - card.offsetWidth;
    card.style.left = `${Math.max(0, Math.min(root.clientWidth - card.offsetWidth, wanted))}px`;
    card.style.top = `${Math.max(0, top - card.offsetHeight / 2)}px`;
  }

  // --- the strip

  function drawFigures(figures) {
    const most = Math.max(90, Math.min(WIDE, (strip.clientWidth - 20) / 3)); // three beside each other on a telephone
    for (const figure of figures) {
      const { width, height } = scene.pictures[figure.picture];
      const wide = Math.max(1, Math.round(Math.min(most, (most * width) / height)));
      const mark = drawPart(figure.firstChild, figure.picture, wide, [0, 0, 1, 1]);
      const rank = (i) => (i === hovered ? 2 : selected.has(i) ? 1 : 0);
      members[figure.picture].slice().sort((i, j) => rank(i) - rank(j)).forEach((i) => mark(i, rank(i)));
    }
  }

  function makeFigure(k) {
    const figure = Object.assign(document.createElement("figure"), { picture: k });
    const canvas = make("canvas", figure);
    make("figcaption", figure);
    const under = (event) => { // the smallest item that holds the pointer, else the one whose middle is near
      const frame = canvas.getBoundingClientRect();
      const x = (event.clientX - frame.left) / frame.width, y = (event.clientY - frame.top) / frame.height;
      let best = -1, least = Infinity;
      for (const i of members[k]) {
        const [x0, y0, x1, y1] = scene.items.box[i];
        const holds = x0 <= x && x < x1 && y0 <= y && y < y1;
        const far = Math.hypot(((x0 + x1) / 2 - x) * frame.width, ((y0 + y1) / 2 - y) * frame.height);
        const cost = holds ? (x1 - x0) * (y1 - y0) : 1 + far; // an area is at most 1
        if ((holds || far < FRAME) && cost < least) [best, least] = [i, cost];
      }
      return best;
    };
    canvas.onpointermove = (event) => hooks.hover(under(event));
    canvas.onpointerleave = () => hooks.hover(-1);
    canvas.onclick = (event) => {
      const item = under(event);
      if (item >= 0) hooks.pick([item], "toggle");
    };
    return figure;
  }

  let wide = 0; // of the strip: its pictures fit it
  new ResizeObserver(() => {
    if (look && strip.clientWidth !== wide) drawFigures(strip.querySelectorAll("figure"));
    wide = strip.clientWidth;
  }).observe(strip);

  return {
    show(next) {
      [scene, look, selected, hovered, shown] = [next, null, new Set(), -1, null];
      images.clear();
      members = scene ? scene.pictures.map(() => []) : [];
      if (scene) scene.items.image.forEach((k, i) => members[k].push(i));
      strip.replaceChildren();
      drawCard();
    },

    // What is marked, and in which marks; pictures with most marks come first.
    mark(marks, items, item) {
      [look, selected, hovered] = [marks, items, item];
      const sizes = new Map();
      selected.forEach((i) => sizes.set(scene.items.image[i], (sizes.get(scene.items.image[i]) || 0) + 1));
      const sorted = [...sizes].sort((a, b) => b[1] - a[1] || a[0] - b[0]);
      const kept = new Map([...strip.querySelectorAll("figure")].map((figure) => [figure.picture, figure]));
      const figures = sorted.slice(0, MOST).map(([k, size]) => {
        const figure = kept.get(k) || makeFigure(k), whole = scene.kind === "images";
        figure.lastChild.textContent = scene.pictures[k].name + (whole ? "" : `: ${size} of ${members[k].length}`);
        return figure;
      });
      strip.replaceChildren(...figures);
      const more = sorted.length - MOST;
      const rest = more === 1 ? "and 1 picture more" : `and ${more} pictures more`;
      if (more > 0) make("p", strip, { className: "hint", textContent: rest });
      drawFigures(figures);
      drawCard();
    },

    // The hovered item, −1 if none; its plane, null if it is not hovered in one; what the card says of it.
    hover(item, plane, told) {
      const before = hovered;
      hovered = item;
      if (item < 0) shown = null;
      else shown = plane ? { plane, told } : null;
      const places = [before, item].filter((i) => i >= 0).map((i) => scene.items.image[i]);
      drawFigures([...strip.querySelectorAll("figure")].filter((figure) => places.includes(figure.picture)));
      drawCard();
    },
  };
};
