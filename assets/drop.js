// Photographs dropped anywhere on the page begin a gallery, as if they were dropped where the Memorise tab takes them; a
// single picture dropped onto the query box is asked with.

const drops = {
  PATIENCE_MS: 30_000, // how long a tab may take to be built, and an import that goes on to end
  READ_MS: 8000, // how long a line can be read
  within: false, // what is dragged comes from the page itself

  // Whether files are dragged that the page takes and no part of it takes by itself.
  taken({ target, dataTransfer }) {
    if (drops.within || !dataTransfer?.types.includes("Files") || !document.querySelector("#invitation")) return false;
    if (target.closest?.("[data-drop], dialog")) return false;
    const [first, ...more] = dataTransfer.items;
    return !(target.closest?.("#query") && !more.length && first?.type.startsWith("image/"));
  },

  hint(shown) {
    document.querySelector(".dropping")?.remove();
    if (!shown) return;
    const box = Object.assign(document.createElement("div"), { className: "dropping" });
    const words = Object.assign(document.createElement("p"), { textContent: "Drop photographs to begin a gallery" });
    const hint = "No captions needed. A picture dropped onto the box is asked with.";
    words.append(Object.assign(document.createElement("small"), { textContent: hint }));
    box.append(words);
    document.querySelector(".gradio-container").append(box);
  },

  // Every file of a drop, those in folders too, each with its path below what was dropped.
  async files(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
    const found = [];
    const walk = async (entry, path) => {
      if (entry.isFile) {
        const file = await new Promise((yes, no) => entry.file(yes, no));
        found.push({ file, name: path + entry.name });
        return;
      }
      const reader = entry.createReader();
      for (;;) {
        const batch = await new Promise((yes, no) => reader.readEntries(yes, no));
        if (!batch.length) return;
        for (const below of batch) await walk(below, `${path}${entry.name}/`);
      }
    };
    for (const entry of entries) await walk(entry, "");
    return found;
  },

  // Gives files, [{file, name}], to the drop zone of the Memorise tab, which may come into being only once that is open.
  async begin(files) {
    address.go({ tab: "memorise" });
    for (const end = Date.now() + drops.PATIENCE_MS; Date.now() < end; ) {
      const given = new CustomEvent("files", { bubbles: true, cancelable: true, detail: files });
      if (document.querySelector('[data-drop="gallery"]')?.dispatchEvent(given) === false) return;
      await new Promise((go) => setTimeout(go, 50));
    }
    const line = gcr.line("Pictures are still being taken in: drop these once that is done.");
    setTimeout(line.remove, drops.READ_MS);
  },

  // With an input of its own: the zone's may be rendered anew while the files are looked for.
  choose() {
    const input = Object.assign(document.createElement("input"), { type: "file", multiple: true });
    input.accept = "image/*,.heic,.avif,.zip,.tar,.gz,.tgz,.jsonl,.json,.csv,.tsv,.txt";
    input.onchange = () => drops.begin([...input.files].map((file) => ({ file, name: file.name })));
    input.click();
    drops.input = input; // is not to be tidied away before
  },
};

document.addEventListener("dragstart", () => (drops.within = true));
document.addEventListener("dragend", () => (drops.within = false));
document.addEventListener("dragenter", (event) => {
  if (!document.querySelector(".dropping") && drops.taken(event)) drops.hint(true);
});
document.addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || drops.hint(false));
document.addEventListener("dragover", (event) => {
  if (drops.taken(event)) event.preventDefault();
});
// Before the box, which would take them all.
document.addEventListener(
  "drop",
  async (event) => {
    drops.hint(false);
    if (!drops.taken(event)) return;
    event.preventDefault();
    event.stopPropagation();
    drops.begin(await drops.files(event.dataTransfer));
  },
  true,
);
document.addEventListener("click", ({ target }) => {
  if (target.closest?.("[data-begin]")) drops.choose();
});
