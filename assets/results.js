// What results do in the browser: on a small screen one side is seen at a time, on a large one both sides or the
// gallery of both together; programs are copied.

const results = {
  SIDES: ["generative", "dense", "together"],
  narrow: matchMedia("(max-width: 640px)"),
  swiped: false, // whether it was narrow at the last look: a screen that is turned scrolls before it says that it was
  going: "", // the side that is scrolled to: those on the way there are not chosen
  side: "generative", // that is seen where there is room for one; the next answer begins with it too
  question: "",
  unfolded: new Set(), // the sides whose weaker results are seen; they stay so once the model has said its words

  show(element, watch) {
    watch("value", () => {
      lightbox.dialog ??= lightbox.build(); // so that it opens at once
      results.see(element, "instant");
      results.unfold(element);
    });
  },

  unfold(element) {
    const question = element.querySelector(".asked-for h2")?.innerHTML ?? "";
    if (question !== results.question) results.unfolded.clear();
    results.question = question;
    for (const side of results.unfolded) results.pane(element, side)?.querySelector(".weaker")?.setAttribute("open", "");
  },

  pane: (element, side) => element.querySelector(`.sides .side.${side}`),

  // Shows the side that was chosen; the first where the answer lacks it, as the one to a picture may.
  see(element, behavior) {
    const side = results.pane(element, results.side) ? results.side : results.SIDES[0];
    results.mark(element, side);
    const pane = results.pane(element, side);
    results.going = side;
    pane?.parentElement.scrollTo({ left: pane.offsetLeft, behavior });
  },

  mark(element, side) {
    element.querySelector(".results")?.setAttribute("data-side", side);
    const pressed = side === "dense" && !results.narrow.matches ? "generative" : side; // both are seen then
    for (const button of element.querySelectorAll(".switch button"))
      button.setAttribute("aria-pressed", button.dataset.side === pressed);
  },

  // The address of this page stands in the programs.
  address(details) {
    const here = new URL(".", location.href).href.replace(/\/$/, "");
    for (const code of details.querySelectorAll("code"))
      code.textContent = code.textContent.replaceAll("http://127.0.0.1:7860", here);
  },

  async copy(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // a page without TLS may not write to the clipboard
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  },
};
window.results = results;
results.swiped = results.narrow.matches;
results.narrow.addEventListener("change", ({ matches }) => {
  results.swiped = matches;
  results.see(document, "instant");
});

// Drawings on white, as emoji are, lose the white around them, so that they can stand on a plate of any colour.
const drawings = {
  WHITE: 250, // of 255: channels from here on are white
  THUMBNAIL: 256, // pixels: the longest side of a photograph's thumbnail, that of a drawing is smaller

  // Clears what is white from the edges inwards, and softens the edge that is left.
  clear({ data, width, height }) {
    const white = (pixel) => Math.min(data[4 * pixel], data[4 * pixel + 1], data[4 * pixel + 2]) >= drawings.WHITE;
    const edge = [];
    for (let x = 0; x < width; x++) edge.push(x, (height - 1) * width + x);
    for (let y = 0; y < height; y++) edge.push(y * width, y * width + width - 1);
    if (!edge.every(white)) return false;
    const beside = (pixel) =>
      [pixel % width && pixel - 1, (pixel + 1) % width && pixel + 1, pixel - width, pixel + width].filter(
        (other) => other > 0 && other < width * height,
      );
    const cleared = new Uint8Array(width * height), rim = new Set();
    for (const pixel of edge) cleared[pixel] = 1;
    while (edge.length)
      for (const other of beside(edge.pop()))
        if (!cleared[other] && white(other)) edge.push(other), (cleared[other] = 1);
        else if (!cleared[other]) rim.add(other);
    for (let pixel = 0; pixel < cleared.length; pixel++) if (cleared[pixel]) data[4 * pixel + 3] = 0;
    const dark = (pixel) => 765 - data[4 * pixel] - data[4 * pixel + 1] - data[4 * pixel + 2];
    const softened = [...rim].map((pixel) => {
      // What stands there is its inner neighbour's colour, more or less of it laid on white.
      const inside = beside(pixel).filter((other) => !cleared[other] && !rim.has(other));
      const [inner] = inside.sort((a, b) => dark(b) - dark(a));
      return inner === undefined || dark(inner) <= dark(pixel) ? [] : [pixel, inner, dark(pixel) / dark(inner)];
    });
    for (const [pixel, inner, alpha] of softened)
      if (alpha) data.set([...data.subarray(4 * inner, 4 * inner + 3), 255 * alpha], 4 * pixel);
    return true;
  },

  cut(image) {
    const canvas = document.createElement("canvas"), drawn = canvas.getContext("2d");
    Object.assign(canvas, { width: image.naturalWidth, height: image.naturalHeight });
    drawn.drawImage(image, 0, 0);
    const pixels = drawn.getImageData(0, 0, canvas.width, canvas.height);
    if (!drawings.clear(pixels)) return;
    drawn.putImageData(pixels, 0, 0);
    image.srcset = canvas.toDataURL();
  },
};

// A picture has come: one in a mosaic or in the grid of a gallery tells only then what it is.
drawings.come = (image) => {
  const { naturalWidth: width, naturalHeight: height } = image;
  // Toggled, as a rendering puts another memory's pictures into the same images.
  if (image.matches?.(".mosaic > img, .cell > .picture > img")) image.classList.toggle("drawing", Math.max(width, height) < drawings.THUMBNAIL);
  if (!image.matches?.(".whole > img, img.drawing")) return;
  image.dataset.cut = "yes";
  if (!/^data:|\.svg$/.test(image.currentSrc)) drawings.cut(image);
};

document.addEventListener("load", ({ target }) => drawings.come(target), true);
for (const image of document.querySelectorAll(".whole > img, .mosaic > img")) if (image.complete) drawings.come(image);

// An answer that is rendered once more, as with what the model says, takes the mark off pictures that are there already.
new MutationObserver((changes) => {
  for (const { target } of changes) if (target.naturalWidth && !target.dataset.cut) drawings.come(target);
}).observe(document, { attributeFilter: ["data-cut"], subtree: true });

document.addEventListener("click", ({ target }) => {
  const button = target.closest?.(".switch button"), copy = target.closest?.("button[data-copy]");
  if (copy) results.copy(copy);
  if (!button) return;
  results.side = button.dataset.side;
  results.see(button.closest("#results"), "smooth");
});
results.scrolled = ({ target, type }) => {
  if (!target.matches?.(".sides") || !results.narrow.matches || !results.swiped) return;
  const far = (pane) => Math.abs(pane.offsetLeft - target.scrollLeft);
  const [near] = [...target.children].sort((a, b) => far(a) - far(b));
  const side = results.SIDES.find((name) => near.matches(`.${name}`));
  if (type === "scroll" && results.going && side !== results.going) return;
  results.going = "";
  results.side = side;
  results.mark(target.closest("#results"), side);
};
for (const type of ["scroll", "scrollend"]) document.addEventListener(type, results.scrolled, true);
for (const type of ["touchstart", "wheel"]) document.addEventListener(type, () => (results.going = ""), { passive: true });
document.addEventListener(
  "toggle",
  ({ target }) => {
    if (target.matches?.(".along")) results.address(target);
    if (!target.matches?.(".weaker")) return;
    const side = results.SIDES.find((name) => target.closest(`.side.${name}`));
    if (target.open) results.unfolded.add(side);
    else results.unfolded.delete(side);
  },
  true,
);
