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
