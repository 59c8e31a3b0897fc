// Files that are dropped anywhere on the page: an image goes to the view that is open, anything else is offered as a
// checkpoint, where the server takes one. Gradio's own upload buttons, of which each has an input, do the rest.
(() => {
  const shown = (input) => input.closest("[role=tabpanel]")?.offsetParent;
  const all = (within) => [...document.querySelectorAll(`${within} input[type=file]`)];

  /** The input that takes what is dropped now, of a media type; none where nothing does. */
  const taker = (type) => (type.startsWith("image/") ? all("[role=tabpanel]").find(shown) : all("#add-file")[0]);

  const over = (on) => document.body.classList.toggle("plrc-over", Boolean(on));

  addEventListener("dragover", (event) => {
    const [item] = [...(event.dataTransfer?.items || [])].filter(({ kind }) => kind === "file");
    if (!item) return;
    event.preventDefault(); // else the browser leaves the page for the file
    over(taker(item.type));
    if (!taker(item.type)) event.dataTransfer.dropEffect = "none";
  });
  addEventListener("dragleave", (event) => event.relatedTarget || over(false));
  addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files, input = file && taker(file.type), one = new DataTransfer();
    over(false);
    if (!input) return;
    event.preventDefault();
    event.stopPropagation();
    one.items.add(file);
    input.files = one.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }, { capture: true });
})();
