// What the losses see of an image: plrc.loss(element, emit) → {show(scene)}.
// scene: {html}, figures of which the one with the class "first" is view 1 with its points; or null for none.
// emit gets {place}, [x, y] in [0, 1] of view 1: its point nearest to that is to be looked at.
(() => {
  const { make, placeIn, ARROWS, towards } = plrc.common;

  plrc.loss = (element, emit) => {
    element.replaceChildren();
    const root = make(element, "div", "plrc-viewer plrc-loss");
    const first = (event) => event.target.closest(".first");
    root.addEventListener("click", (event) => {
      const view = first(event);
      if (!view) return;
      const { width, height } = view.getBoundingClientRect(), [x, y] = placeIn(view, event);
      emit({ place: [x / width, y / height] });
    });
    root.addEventListener("keydown", (event) => {
      const view = first(event), arrow = ARROWS[event.key];
      if (!view || !arrow) return;
      event.preventDefault();
      const [ring, ...points] = ["[fill=none]", ":not([fill=none])"].flatMap((of) =>
        [...view.querySelectorAll(`circle${of}`)].slice(0, of === "[fill=none]" ? 1 : undefined)
      ).map((circle) => [circle.cx.baseVal.value / 100, circle.cy.baseVal.value / 100]);
      const next = towards(points, ring, arrow);
      if (next >= 0) emit({ place: points[next] });
    });
    const show = (scene) => {
      const kept = root.querySelector(".first") === document.activeElement;
      root.innerHTML = scene ? scene.html : '<p class="plrc-empty">Choose an image and a checkpoint.</p>';
      if (kept) root.querySelector(".first")?.focus();
    };
    show(null);
    return { show };
  };
})();
