// A grid of thousands of pictures that scrolls with the page: only rows near the window are in it, and those that leave
// are used again. One cell has the focus, as in the ARIA pattern of a grid; its row stays in the page wherever it is.

class PictureGrid {
  static GAP = 10;
  static LABEL = 30; // the height of the line below a picture
  static SMALLEST = { wide: 140, narrow: 100 }; // of a picture's side
  static NARROW = 600;
  static NEAR = 600; // pixels above and below the window whose rows are there
  static LOAD_MS = 100; // pictures are asked for no more often: those that fly past are not

  // `does`: fill(cell, item) writes what a cell says, url(item) is its picture's, key(item) names it;
  // act(what, position) is what a person does: "open", "toggle", "anchor" and "range", "all", "none" or "remove".
  constructor(element, does) {
    Object.assign(this, { element, does, items: [], rows: new Map(), at: 0, columns: 1 });
    element.addEventListener("keydown", (event) => this.press(event));
    element.addEventListener("click", (event) => this.click(event));
    element.addEventListener("focusin", ({ target }) => {
      if (target.matches(".cell")) this.rove(target.position);
    });
    new ResizeObserver(() => this.lay()).observe(element);
    const soon = () => (this.frame ??= requestAnimationFrame(() => this.render()));
    document.addEventListener("scroll", soon, { capture: true, passive: true });
    addEventListener("resize", soon);
  }

  // Shows other items; the focus stays at its place where there is one.
  show(items) {
    this.items = items;
    this.at = Math.max(0, Math.min(this.at, items.length - 1));
    this.lay();
  }

  lay() {
    const { GAP, LABEL, SMALLEST, NARROW } = PictureGrid, width = this.element.clientWidth;
    if (!width) return; // the tab is not shown
    const smallest = width < NARROW ? SMALLEST.narrow : SMALLEST.wide;
    this.columns = Math.max(1, Math.floor((width + GAP) / (smallest + GAP)));
    this.pitch = (width + GAP) / this.columns + LABEL;
    const rows = Math.ceil(this.items.length / this.columns);
    this.element.style.setProperty("--columns", this.columns);
    this.element.style.height = `${Math.max(0, rows * this.pitch - GAP)}px`;
    this.element.setAttribute("aria-rowcount", rows);
    this.element.setAttribute("aria-colcount", this.columns);
    this.stale = true;
    this.render();
  }

  render() {
    this.frame = undefined;
    if (!this.pitch || !this.element.clientWidth) return;
    const { NEAR } = PictureGrid, { top } = this.element.getBoundingClientRect();
    const rows = Math.ceil(this.items.length / this.columns);
    const first = Math.max(0, Math.floor((-top - NEAR) / this.pitch));
    const end = Math.min(rows, Math.ceil((innerHeight - top + NEAR) / this.pitch));
    const focused = Math.floor(this.at / this.columns);
    const wanted = new Set(rows ? [focused] : []);
    for (let row = first; row < end; row++) wanted.add(row);
    const spare = [];
    // Pictures that are there go with what they show.
    const images = this.stale ? [...this.element.querySelectorAll("img")].filter((image) => image.complete) : [];
    const known = new Map(images.map((image) => [image.closest(".cell").key, image]));
    for (const [number, row] of this.rows)
      if (!wanted.has(number)) {
        this.rows.delete(number);
        row.remove();
        spare.push(row);
      } else if (this.stale) this.fill(row, number, known);
    [...wanted].sort((a, b) => a - b).forEach((number, place) => {
      if (this.rows.has(number)) return;
      const row = spare.pop() ?? this.row();
      this.fill(row, number, known);
      this.rows.set(number, row);
      this.element.insertBefore(row, this.element.children[place] ?? null);
    });
    this.stale = false;
    this.loading ??= setTimeout(() => this.load(), this.loaded ? PictureGrid.LOAD_MS : 0);
  }

  row() {
    const row = document.createElement("div");
    row.className = "row";
    row.setAttribute("role", "row");
    return row;
  }

  cell() {
    const make = (kind, className) => Object.assign(document.createElement(kind), { className });
    const cell = make("div", "cell"), check = make("span", "check");
    cell.setAttribute("role", "gridcell");
    cell.append(make("div", "picture"), check, make("p", "label"));
    return cell;
  }

  fill(row, number, known) {
    row.style.transform = `translateY(${number * this.pitch}px)`;
    row.setAttribute("aria-rowindex", number + 1);
    const count = Math.min(this.columns, this.items.length - number * this.columns);
    while (row.children.length > count) row.lastChild.remove();
    while (row.children.length < count) row.append(this.cell());
    [...row.children].forEach((cell, column) => {
      cell.position = number * this.columns + column;
      cell.tabIndex = cell.position === this.at ? 0 : -1;
      cell.setAttribute("aria-colindex", column + 1);
      const item = this.items[cell.position], key = this.does.key(item);
      if (cell.key !== key) {
        const before = cell.querySelector("img");
        if (before && !before.complete) before.removeAttribute("src"); // or it would go on loading
        before?.remove();
        if (known.has(key)) cell.firstChild.append(known.get(key));
      }
      Object.assign(cell, { key, url: this.does.url(item) });
      this.does.fill(cell, item);
    });
  }

  // Fills the cells anew where they are, after what they say has changed.
  refill() {
    this.stale = true;
    this.render();
  }

  load() {
    this.loading = undefined;
    this.loaded = true;
    for (const row of this.rows.values())
      for (const cell of row.children) {
        if (cell.querySelector("img")) continue;
        const image = Object.assign(new Image(), { alt: "", decoding: "async", draggable: false });
        image.onerror = () => {
          image.onerror = null;
          image.src = "no-picture.svg";
        };
        image.src = cell.url;
        cell.firstChild.append(image);
      }
  }

  cellAt(position) {
    const row = this.rows.get(Math.floor(position / this.columns));
    return row?.children[position % this.columns];
  }

  // Lets the Tab key come to a cell.
  rove(position) {
    const before = this.cellAt(this.at), cell = this.cellAt(position);
    if (before) before.tabIndex = -1;
    if (cell) cell.tabIndex = 0;
    this.at = position;
  }

  // Gives a cell the focus, and brings it into the window.
  focus(position = this.at) {
    if (!this.items.length) return;
    this.rove(Math.max(0, Math.min(position, this.items.length - 1)));
    this.render();
    const cell = this.cellAt(this.at);
    cell.focus({ preventScroll: true });
    cell.scrollIntoView({ block: "nearest" });
  }

  press(event) {
    const { key, shiftKey: shift } = event, ctrl = event.ctrlKey || event.metaKey;
    if (!event.target.matches(".cell") || event.altKey) return;
    const { at, columns } = this, last = this.items.length - 1, start = at - (at % columns);
    const page = columns * Math.max(1, Math.floor(innerHeight / this.pitch) - 1);
    const to = {
      ArrowLeft: at - 1,
      ArrowRight: at + 1,
      ArrowUp: at < columns ? at : at - columns,
      ArrowDown: start + columns > last ? at : at + columns,
      PageUp: Math.max(at % columns, at - page),
      PageDown: at + page,
      Home: ctrl ? 0 : start,
      End: ctrl ? last : start + columns - 1,
    }[key];
    const does = { " ": shift ? "range" : "toggle", Enter: "open", Escape: "none", Delete: "remove" }[key];
    if (to === undefined && !does && !(ctrl && key === "a")) return;
    event.preventDefault();
    if (to === undefined) return this.does.act(does ?? "all", at);
    if (shift) this.does.act("anchor", at);
    this.focus(to);
    if (shift) this.does.act("range", this.at);
  }

  click(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const checks = event.target.closest(".check") || event.ctrlKey || event.metaKey;
    this.focus(cell.position);
    this.does.act(event.shiftKey ? "range" : checks ? "toggle" : "open", cell.position);
  }
}
window.PictureGrid = PictureGrid;
