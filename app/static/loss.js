// What the losses see of an image: plrc.loss(element, emit) → {show(scene)}.
// scene: {html}, figures of which the one with the class "first" is view 1 with its points; or null for none.
// emit gets {place}, [x, y] in [0, 1] of view 1: its point nearest to that is to be looked at.
(() => {
  const { make, shareIn, ARROWS, towards } = plrc.common;

  plrc.loss = (element, emit) => {
    element.replaceChildren();
    const root = make(element, "div", "plrc-viewer plrc-loss");
    const first = (event) => event.target.closest(".first");
    root.addEventListener("click", (event) => {
      const view = first(event);
      if (view) emit({ place: shareIn(view, event) });
    });
    root.addEventListener("keydown", (event) => {
      const view = first(event), arrow = ARROWS[event.key];
      if (!view || !arrow) return;
      event.preventDefault();
      const placed = (circles) => [...view.querySelectorAll(circles)]
        .map(({ cx, cy }) => [cx.baseVal.value / 100, cy.baseVal.value / 100]);
      const [ring] = placed("circle[fill=none]"), points = placed("circle:not([fill=none])");
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
