// What Gradio's lists leave out.

// Backspace in the empty field of a list of several values takes the last one away. Gradio does that too, but tells
// nobody; a click on that value's own button is told.
addEventListener("keydown", (event) => {
  const { key, target } = event;
  if (key !== "Backspace" || target.role !== "combobox" || target.value) return;
  const [last] = [...target.closest(".wrap").querySelectorAll(".token-remove:not(.remove-all)")].slice(-1);
  if (!last) return;
  event.stopPropagation();
  last.click();
}, { capture: true });

// A list that was opened by the Tab key is closed when the focus has gone on: it takes the focus itself, and the field
// does not hear that it has lost it.
addEventListener("focusin", ({ target }) => {
  for (const list of document.querySelectorAll(".wrap > .options")) {
    const field = list.parentElement.querySelector("[role=combobox]");
    if (field && !list.parentElement.contains(target)) field.dispatchEvent(new FocusEvent("blur"));
  }
});
