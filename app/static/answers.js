// What in a folder is most like a place, a region or an image: plrc.answers(element, emit) → {show(scene)}.
//
// scene, or null for none:
//   image: {src, width, height, name}: that which is asked about
//   of: "point", "region" or "image"; points: [[x, y]], shares of the image; note: a sentence, where there is no answer
//   networks: [{name, caption, box, answers: [{src, width, height, name, cosine, box, right, spec}]}], best first
//     box: [x0, y0, x1, y1], shares of its image. right: whether its class or folder is the asked one's; null: not known
// emit gets {point: [x, y]} of a click on the image; with {image: spec} of a click on an answer.
(() => {
  const { make, write, percent, clamp, minus, shareIn, lay, ARROWS } = plrc.common;
  const STEP = 1 / 16; // of the crosshair
  const LOOKS = { true: "right", false: "wrong", null: "unknown" };

  const frame = (parent, [x0, y0, x1, y1], look) => {
    const box = make(parent, "div", `plrc-box ${look}`), whole = x0 <= 0 && y0 <= 0 && x1 >= 1 && y1 >= 1;
    lay(box, x0, y0, x1 - x0, y1 - y0);
    const { colour, dash } = plrc.look.matches[look] || {};
    if (colour) Object.assign(box.style, { borderColor: colour, borderStyle: dash.length ? "dashed" : "solid" });
    box.classList.toggle("whole", whole);
  };

  plrc.answers = (element, emit) => {
    element.replaceChildren();
    const root = make(element, "div", "plrc-viewer plrc-answers");
    const asked = make(root, "figure", "asked"), rows = make(root, "div", "rows");
    const surface = make(asked, "div", "plrc-canvas", { tabIndex: 0, role: "application" });
    const image = make(surface, "img", "", { alt: "" }), marks = make(surface, "div"), cross = make(surface, "div", "plrc-cross");
    const title = make(asked, "figcaption", "plrc-title");
    let scene = null, at = [0.5, 0.5];

    const moveCross = () => lay(cross, ...at);
    const ask = (point) => scene && scene.of !== "image" && emit({ point: point.map((v) => +v.toFixed(5)) });

    surface.onclick = (event) => ask((at = shareIn(surface, event)));
    surface.onfocus = () => (cross.hidden = !surface.matches(":focus-visible"));
    surface.onblur = () => (cross.hidden = true);
    surface.onkeydown = (event) => {
      const arrow = ARROWS[event.key];
      if (arrow) [at, cross.hidden] = [at.map((v, k) => clamp(v + STEP * arrow[k])), false];
      else if (event.key === "Enter") ask(at);
      else return;
      moveCross();
      event.preventDefault();
    };

    const addAnswer = (parent, answer) => {
      const { src, width, height, name, cosine, box, right, spec } = answer, told = minus(cosine.toFixed(3));
      const known = right === null ? "" : right ? ", right" : ", wrong";
      const button = make(parent, "button", "answer", { type: "button", title: name });
      button.ariaLabel = `${name}, cosine ${told}${known}: ask about it`;
      const picture = make(button, "div", "picture");
      Object.assign(picture.style, { width: percent(Math.min(1, width / height)), aspectRatio: `${width} / ${height}` });
      make(picture, "img", "", { src, alt: "" });
      frame(picture, box, LOOKS[right]);
      make(button, "span", "", { textContent: told });
      button.onclick = () => emit({ image: spec, point: [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2] });
    };

    const show = (next) => {
      scene = next;
      [asked.hidden, rows.hidden] = [!scene, false];
      rows.replaceChildren();
      if (!scene) return make(rows, "p", "plrc-empty", { textContent: "Choose an image, a folder and a checkpoint." });
      const { width, height, name } = scene.image;
      if (image.src !== scene.image.src) image.src = scene.image.src;
      surface.style.aspectRatio = `${width} / ${height}`;
      surface.classList.toggle("still", scene.of === "image");
      surface.ariaLabel = `${name}. Click, or move with the arrow keys and press Enter, to ask what is like this place.`;
      asked.style.setProperty("--widest", `calc(55vh * ${width / height})`);
      write(title, name);
      marks.replaceChildren();
      const boxes = new Map(scene.networks.map(({ box }) => [box.join(), box]));
      boxes.forEach((box) => frame(marks, box, "of"));
      for (const [x, y] of scene.points) {
        Object.assign(make(marks, "div", "plrc-point").style, { left: percent(x), top: percent(y) });
        at = [x, y];
      }
      moveCross();
      if (scene.note) make(rows, "p", "plrc-empty", { textContent: scene.note });
      for (const { name, caption, answers } of scene.networks) {
        const row = make(rows, "section");
        make(row, "div", "plrc-title", { textContent: name });
        make(row, "div", "plrc-caption", { textContent: caption });
        const list = make(row, "div", "list");
        list.style.setProperty("--count", Math.min(8, answers.length));
        answers.forEach((answer) => addAnswer(list, answer));
      }
      surface.dataset.drawn = Number(surface.dataset.drawn || 0) + 1;
    };

    cross.hidden = true;
    show(null);
    return { show };
  };
})();
