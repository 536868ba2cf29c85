// The Gallery tab: everything in the chosen memory, sorted, filtered, and changed. The server sends the list once a
// version (gallery_routes.py); what is shown of it is worked out here. Changes name pictures by their file names.

const galleryTab = {
  FRESH_MS: 2000, // how often it is asked whether there is something new, by another page or as the memory wakes
  SAID_MS: 6000, // how long a message stays that says what was done

  begin(place) {
    const element = place.querySelector(".browse");
    const part = (name) => element.querySelector(`[data-part="${name}"]`);
    Object.assign(galleryTab, { element, part, list: null, shown: [], chosen: new Set(), anchor: 0 });
    galleryTab.grid = new PictureGrid(part("grid"), {
      url: (image) => `picture/${galleryTab.list.memory}/${image}/${galleryTab.list.version}`,
      key: (image) => galleryTab.list.files[image],
      fill: galleryTab.fill,
      act: galleryTab.act,
    });
    for (const name of ["find", "album", "only", "order"])
      part(name).addEventListener(name === "find" ? "input" : "change", () => galleryTab.filter());
    part("memory").addEventListener("change", ({ target }) => address.go({ memory: target.value, q: "", album: "" }));
    element.addEventListener("click", ({ target }) => {
      const button = target.closest("button[data-does]");
      if (button) galleryTab[button.dataset.does]();
    });
    const rests = () => document.hidden || !element.checkVisibility() || galleryTab.loads;
    setInterval(() => rests() || galleryTab.load(), galleryTab.FRESH_MS);
    document.addEventListener("memory-changed", () => (galleryTab.loaded = galleryTab.load()));
    // The list of memories, and where an address led nowhere.
    const watch = new MutationObserver(() => galleryTab.follow());
    for (const id of ["memory-choice", "place"])
      watch.observe(document.getElementById(id), { childList: true, subtree: true, characterData: true });
    galleryTab.follow();
  },

  // The tab was turned to, or a memory chosen.
  open() {
    if (!galleryTab.element) return; // `begin` opens it
    galleryTab.follow();
    galleryTab.load();
  },

  // Shows the memory that the page is about; what was chosen and typed for another one is forgotten.
  follow() {
    const memory = address.now.memory || address.SHIPPED;
    galleryTab.memories();
    if (memory === galleryTab.memory) return;
    Object.assign(galleryTab, { memory, list: null, anchor: 0 });
    galleryTab.chosen.clear();
    galleryTab.line?.remove();
    for (const name of ["find", "album", "only"]) galleryTab.part(name).value = "";
    galleryTab.filter();
    galleryTab.load();
  },

  async load() {
    const loads = (galleryTab.loads = galleryTab.read(galleryTab.memory)), list = await loads;
    if (loads !== galleryTab.loads) return; // there is a later one
    galleryTab.loads = undefined;
    if (list.waking) galleryTab.part("count").textContent = "Waking the memory…";
    if (list.mistake && list.mistake !== galleryTab.failed) galleryTab.say(list.mistake);
    if (!list.mistake && galleryTab.failed) galleryTab.line.remove();
    galleryTab.failed = list.mistake;
    if (list.files) galleryTab.take(list);
  },

  // What the server says of a memory's gallery; nothing where that is known.
  async read(memory) {
    const { version } = galleryTab.list ?? {};
    try {
      const reply = await fetch(`gallery/${memory}`, { headers: version ? { "If-None-Match": `"${version}"` } : {} });
      return reply.status === 304 ? {} : await reply.json();
    } catch {
      return { mistake: "The gallery cannot be read, as nothing answers. It is tried again." };
    }
  },

  take(list) {
    list.words = list.files.map((file, image) => [file, ...list.captions[image]].join("\n").toLowerCase());
    galleryTab.list = list;
    const there = new Set(list.files);
    for (const file of galleryTab.chosen) if (!there.has(file)) galleryTab.chosen.delete(file);
    galleryTab.offer();
    galleryTab.filter();
  },

  // The memories of the Search tab's list; there is none while there is no choice.
  memories() {
    const options = [...document.querySelectorAll("#memory-choice option")], list = galleryTab.part("memory");
    list.replaceChildren(...options.map((option) => option.cloneNode(true)));
    list.value = address.now.memory || address.SHIPPED;
    list.closest("label").hidden = !options.length;
  },

  // What the lists offer to filter by, each with its count.
  offer() {
    const { list, part, number } = galleryTab, album = part("album"), only = part("only");
    const sizes = list.albums.map(() => 0);
    for (const place of list.album) if (place >= 0) sizes[place]++;
    const named = list.albums.map((name, place) => [`in ${name}`, `${name} (${number(sizes[place])})`]);
    const loose = list.album.filter((place) => place < 0).length;
    if (loose) named.push(["none", `no album (${number(loose)})`]);
    const before = album.value;
    album.replaceChildren(...[["", "all albums"], ...named].map(([value, text]) => new Option(text, value)));
    album.value = before;
    if (album.selectedIndex < 0) album.value = "";
    album.closest("label").hidden = !list.albums.length;
    for (const option of only.options) {
      option.dataset.words ??= option.textContent;
      const count = list.files.filter((_, image) => galleryTab.only[option.value](image)).length;
      option.textContent = option.dataset.words + (option.value && ` (${number(count)})`);
    }
    part("fixed").textContent = list.fixed;
    part("fixed").hidden = !list.fixed;
    galleryTab.element.classList.toggle("fixed", Boolean(list.fixed));
  },

  only: {
    "": () => true,
    captioned: (image) => galleryTab.list.captions[image].length > 0,
    bare: (image) => galleryTab.list.captions[image].length === 0,
    written: (image) => image in galleryTab.list.written,
    added: (image) => image >= galleryTab.list.files.length - galleryTab.list.added,
  },

  orders: {
    imported: () => 0,
    name: (a, b) => galleryTab.collator.compare(galleryTab.list.files[a], galleryTab.list.files[b]),
    album: (a, b) => galleryTab.collator.compare(galleryTab.albumOf(a) || "\uffff", galleryTab.albumOf(b) || "\uffff"),
    newest: (a, b) => b - a,
  },
  collator: new Intl.Collator("en", { numeric: true }),
  albumOf: (image) => galleryTab.list.albums[galleryTab.list.album[image]] ?? "",

  filter() {
    const { list, part, grid, albumOf } = galleryTab;
    const find = part("find").value.trim().toLowerCase(), album = part("album").value;
    const inAlbum = (image) => !album || album === (albumOf(image) ? `in ${albumOf(image)}` : "none");
    const only = galleryTab.only[part("only").value], images = list ? list.files.map((_, image) => image) : [];
    galleryTab.shown = images
      .filter((image) => list.words[image].includes(find) && inAlbum(image) && only(image))
      .sort(galleryTab.orders[part("order").value]);
    galleryTab.anchor = 0;
    part("grid").hidden = !galleryTab.shown.length;
    grid.show(galleryTab.shown);
    galleryTab.count();
  },

  fill(cell, image) {
    const { list, chosen, albumOf } = galleryTab, captions = list.captions[image], file = list.files[image];
    const bare = !captions.length, written = Boolean(list.written[image]?.includes(0));
    const added = galleryTab.only.added(image);
    const notes = {
      "no caption": bare,
      "written by the model": written,
      [`album ${albumOf(image)}`]: albumOf(image),
      "added since training": added,
    };
    const said = [...captions.slice(0, 1), file, ...Object.keys(notes).filter((note) => notes[note])];
    cell.setAttribute("aria-label", said.join(", "));
    cell.setAttribute("aria-selected", chosen.has(file));
    cell.title = [...captions, file].join("\n");
    cell.lastChild.textContent = captions[0] ?? file;
    for (const [name, is] of Object.entries({ bare, written, added })) cell.classList.toggle(name, is);
  },

  // What is chosen

  act(what, position) {
    const { shown, chosen, list } = galleryTab, file = (at) => list.files[shown[at]];
    if (what === "open") return galleryTab.look(position);
    if (list.fixed) return;
    if (what === "remove") return chosen.size ? galleryTab.forget() : undefined;
    if (what === "anchor") {
      if (!chosen.has(file(galleryTab.anchor))) galleryTab.anchor = position;
      return;
    }
    if (what === "none") chosen.clear();
    if (what === "all") shown.forEach((_, at) => chosen.add(file(at)));
    if (what === "toggle") {
      galleryTab.anchor = position;
      chosen.delete(file(position)) || chosen.add(file(position));
    }
    if (what === "range") {
      const [from, to] = [galleryTab.anchor, position].sort((a, b) => a - b);
      for (let at = from; at <= to; at++) chosen.add(file(at));
    }
    galleryTab.grid.refill();
    galleryTab.count();
  },

  all: () => galleryTab.act("all"),
  none: () => galleryTab.act("none"),

  count() {
    const { list, shown, chosen, part, number, pictures } = galleryTab, total = list?.files.length ?? 0;
    const some = `${number(shown.length)} of ${number(total)}`;
    part("count").textContent = !list ? "" : shown.length === total ? pictures(total) : some;
    part("empty").hidden = !list || shown.length > 0;
    part("all").hidden = !shown.length || Boolean(list.fixed);
    part("bar").hidden = !chosen.size;
    if (!chosen.size) return;
    const hidden = chosen.size - shown.filter((image) => chosen.has(list.files[image])).length;
    const besides = hidden ? `, ${number(hidden)} of them not shown` : "";
    part("chosen").textContent = `${number(chosen.size)} selected${besides}`;
  },

  everything() {
    for (const name of ["find", "album", "only"]) galleryTab.part(name).value = "";
    galleryTab.filter();
    galleryTab.part("find").focus();
  },

  number: (count) => count.toLocaleString("en"),
  pictures: (count) => `${galleryTab.number(count)} picture${count === 1 ? "" : "s"}`,

  // Changes

  // Has the server change pictures; resolves to {mistake} where it did not, else once the list is new.
  async send(change) {
    galleryTab.element.setAttribute("aria-busy", "true");
    const answer = await lightbox.change(change, galleryTab.memory);
    await galleryTab.loaded;
    galleryTab.element.removeAttribute("aria-busy");
    return answer;
  },

  async forget() {
    const files = [...galleryTab.chosen], what = galleryTab.pictures(files.length);
    const words = `Forget ${what}? This memory then recalls ${files.length > 1 ? "them" : "it"} no more.`;
    if (!(await gcr.dialog(words, "Forget"))) return;
    galleryTab.say(`Forgetting ${what}…`, "good");
    const { mistake } = await galleryTab.send({ do: "forget", files });
    if (mistake) return galleryTab.say(mistake);
    galleryTab.line.remove();
    galleryTab.grid.focus();
    lightbox.offerUndo(galleryTab.memory, files);
  },

  // Opens a picture, those that are shown before and behind it.
  look(at) {
    const { list, shown, grid } = galleryTab;
    const whole = Boolean(grid.cellAt(at).querySelector("img.drawing")); // one is like the others
    const pictures = shown.map((index) => ({ memory: list.memory, index, url: grid.does.url(index), whole }));
    lightbox.open(pictures, at);
    const back = () => grid.focus(Math.max(0, galleryTab.shown.indexOf(lightbox.picture.index)));
    lightbox.dialog.addEventListener("close", back, { once: true });
  },

  make: (kind, set) => Object.assign(document.createElement(kind), set),

  // Asks for captions of the selected pictures, of one those that it has.
  caption() {
    const { list, make, chosen, pictures } = galleryTab, files = [...chosen], one = files.length === 1;
    const image = list.files.indexOf(files[0]), what = one ? files[0] : pictures(files.length);
    const text = make("textarea", { name: "captions", rows: 4, placeholder: "Captions, one a line" });
    text.setAttribute("aria-label", text.placeholder);
    text.value = one ? list.captions[image].join("\n") : "";
    const choice = (value, words, checked) => {
      const label = make("label", { className: "check" });
      label.append(make("input", { type: "radio", name: "how", value, checked }), words);
      return label;
    };
    const fields = one
      ? [make("img", { alt: "", src: galleryTab.grid.does.url(image), className: "edited" }), text]
      : [text, choice("add", "Add to the captions that each has", true), choice("replace", "Replace them", false)];
    galleryTab.ask(`Captions of ${what}`, fields, async (given) => {
      const captions = gcr.lines(given.get("captions")), add = given.get("how") === "add";
      const answer = await galleryTab.send({ do: "caption", files, captions, add });
      if (!answer.mistake) galleryTab.say(lightbox.saved(answer, files.length), "good");
      return answer.mistake;
    });
  },

  // Asks for the album of the selected pictures.
  move() {
    const { list, make, chosen, albumOf, pictures } = galleryTab, files = [...chosen];
    const albums = new Set(files.map((file) => albumOf(list.files.indexOf(file))));
    const value = albums.size === 1 ? [...albums][0] : "";
    const name = make("input", { name: "album", placeholder: "No album", value });
    const known = make("datalist", { id: "known-albums" });
    name.setAttribute("list", "known-albums");
    name.setAttribute("aria-label", "Album");
    known.append(...list.albums.map((value) => make("option", { value })));
    const hint = make("p", { className: "hint", textContent: "One that there is or a new name; empty for none." });
    galleryTab.ask(`Album of ${pictures(files.length)}`, [name, known, hint], async (given) => {
      const album = given.get("album").trim();
      const { mistake } = await galleryTab.send({ do: "move", files, album });
      if (!mistake) galleryTab.say(album ? `Moved to ${album}.` : "Taken out of their albums.", "good");
      return mistake;
    });
  },

  // A dialog that stays, with what was typed, until that is saved. `save` resolves to what was wrong.
  ask(words, fields, save) {
    const { make } = galleryTab, dialog = make("dialog", { className: "ask" }), form = make("form", {});
    const row = make("p", { className: "does" });
    const no = make("button", { type: "button", textContent: "Cancel", onclick: () => dialog.close() });
    const yes = make("button", { textContent: "Save", className: "primary" });
    const wrong = make("p", { className: "wrong", hidden: true });
    wrong.setAttribute("role", "alert");
    row.append(no, yes);
    form.append(make("p", { textContent: words }), ...fields, wrong, row);
    dialog.append(form);
    dialog.setAttribute("aria-label", words);
    document.querySelector(".gradio-container").append(dialog);
    form.onsubmit = async (event) => {
      event.preventDefault();
      yes.disabled = true;
      yes.textContent = "Saving…";
      const mistake = await save(new FormData(form));
      if (!mistake) return dialog.close();
      Object.assign(yes, { disabled: false, textContent: "Save" });
      Object.assign(wrong, { hidden: false, textContent: mistake });
    };
    dialog.onclose = () => {
      dialog.remove();
      galleryTab.grid.focus();
    };
    dialog.showModal();
    form.querySelector("textarea, input").focus();
  },

  // A line at the foot of the window, in the place of the last one; what went wrong stands there until it is dismissed.
  say(words, kind = "") {
    galleryTab.line?.remove();
    const line = (galleryTab.line = gcr.line(words, kind)), { make } = galleryTab;
    const away = make("button", { type: "button", className: "away", textContent: "×", onclick: line.remove });
    away.setAttribute("aria-label", "Dismiss");
    line.words.after(away);
    if (kind) setTimeout(line.remove, galleryTab.SAID_MS);
  },
};
window.galleryTab = galleryTab;
