// The lightbox: a picture as large as the window lets it be, what is known of it, and what can be done with it.
//
// It opens on buttons with data-picture (an index), those of the nearest [data-pictures] one after the other; the
// nearest [data-memory] says whose they are. `lightbox.open(pictures, at)` opens it on others: [{memory, index, url}].
// After a change to a memory the document gets an event "memory-changed", whose detail has the id of the memory.
// The thumbnail is there at once, the picture is laid over it when it has come.

const lightbox = {
  SWIPE: 48, // CSS pixels that a finger has to go
  SHOWN_MS: 4000, // how long a message stays
  LOOKED_AT_MS: 400, // how long a picture is shown before the model is asked about it
  known: new Map(), // what the server says of a picture, by its address there

  open(pictures, at, group = "") {
    lightbox.pictures = pictures;
    lightbox.group = group;
    lightbox.dialog ??= lightbox.build();
    lightbox.show(at);
    if (lightbox.dialog.open) return;
    lightbox.dialog.showModal();
    lightbox.parts.close.focus();
    history.pushState({ lightbox: true }, "");
  },

  // Resolves once the page is as it was, its history too.
  close() {
    return new Promise((done) => {
      lightbox.done = done;
      lightbox.dialog.close();
    });
  },

  build() {
    const { make } = lightbox, part = (lightbox.parts = {});
    const dialog = make("dialog", { className: "lightbox" });
    const button = (name, words, label, does) => {
      const made = make("button", { type: "button", className: name, textContent: words, onclick: does });
      if (label) made.setAttribute("aria-label", label);
      return (part[name] = made);
    };
    part.stage = make("div", { className: "stage" });
    part.small = make("img", { className: "small", alt: "" });
    part.full = make("img", { className: "full", alt: "" });
    part.full.onload = () => part.stage.classList.add("sharp");
    part.stage.append(
      part.small,
      part.full,
      button("previous", "‹", "Previous picture", () => lightbox.step(-1)),
      button("next", "›", "Next picture", () => lightbox.step(1)),
      button("close", "×", "Close", lightbox.close),
    );
    part.facts = make("div", { className: "facts" });
    part.status = make("p", { className: "said-now" });
    part.status.setAttribute("role", "status");
    part.save = make("a", { className: "button save", textContent: "Save" });
    const does = make("p", { className: "does" });
    does.append(
      button("like", "More like this", "", lightbox.like),
      button("copy", "Copy", "", lightbox.copy),
      part.save,
      button("edit", "Edit captions", "", lightbox.edit),
      button("forget", "Forget", "", lightbox.forget),
    );
    const side = make("section", { className: "about" });
    side.setAttribute("aria-label", "About this picture");
    side.append(part.facts, does, part.status);
    dialog.append(part.stage, side);
    dialog.addEventListener("close", lightbox.closed);
    dialog.addEventListener("cancel", (event) => {
      if (!lightbox.cancel) return;
      event.preventDefault();
      lightbox.cancel();
    });
    dialog.addEventListener("keydown", lightbox.key);
    dialog.addEventListener("click", ({ target }) => {
      if ((target === dialog || target === part.stage) && !lightbox.swiped && !lightbox.cancel) lightbox.close();
    });
    part.stage.addEventListener("pointerdown", ({ clientX, clientY }) => {
      lightbox.from = [clientX, clientY];
      lightbox.swiped = false;
    });
    part.stage.addEventListener("pointerup", ({ clientX, clientY }) => {
      const [x, y] = [clientX - lightbox.from[0], clientY - lightbox.from[1]];
      lightbox.swiped = Math.abs(x) > lightbox.SWIPE && Math.abs(x) > Math.abs(y);
      if (lightbox.swiped) lightbox.step(x < 0 ? 1 : -1);
    });
    document.querySelector(".gradio-container").append(dialog);
    return dialog;
  },

  make: (kind, set) => Object.assign(document.createElement(kind), set),

  text(kind, words, className = "") {
    return lightbox.make(kind, { textContent: words, className });
  },

  key(event) {
    if (lightbox.cancel) return;
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) lightbox.step(step);
    else if (event.key === "Home") lightbox.show(0);
    else if (event.key === "End") lightbox.show(lightbox.pictures.length - 1);
    else return;
    event.preventDefault();
  },

  step(by) {
    const to = lightbox.at + by;
    if (lightbox.cancel) return; // what is being typed stays
    if (to >= 0 && to < lightbox.pictures.length) lightbox.show(to);
  },

  get picture() {
    return lightbox.pictures[lightbox.at];
  },

  async show(at) {
    lightbox.at = at;
    const { parts: part, picture, pictures } = lightbox;
    part.status.textContent = "";
    part.stage.classList.remove("sharp");
    part.stage.classList.toggle("whole", Boolean(picture.whole));
    for (const image of [part.full, part.small]) for (const of of ["src", "srcset"]) image.removeAttribute(of);
    part.small.src = picture.url;
    part.previous.disabled = at === 0;
    part.next.disabled = at + 1 === pictures.length;
    lightbox.tell(null);
    const facts = await lightbox.facts(picture);
    if (picture !== lightbox.picture || !facts) return;
    part.full.src = facts.large;
    lightbox.tell(facts);
    lightbox.recall(picture, facts);
    for (const near of [pictures[at + 1], pictures[at - 1]].filter(Boolean))
      lightbox.facts(near).then((facts) => facts && (new Image().src = facts.large));
  },

  // Asks the model how it knows a picture that the answer on the page does not tell of.
  async recall(picture, facts) {
    if (lightbox.found(facts.file_name)?.identifier) return;
    await new Promise((go) => setTimeout(go, lightbox.LOOKED_AT_MS));
    const here = () => picture === lightbox.picture && lightbox.dialog.open && !lightbox.cancel;
    const recalled = here() && (await lightbox.facts(picture, "recalled"));
    if (recalled && here()) lightbox.tell(facts, recalled);
  },

  // What the server says of a picture; nothing where it does not answer.
  facts({ memory, index }, route = "about") {
    const place = `${route}/${memory}/${index}`;
    if (!lightbox.known.has(place))
      lightbox.known.set(
        place,
        fetch(place)
          .then((reply) => (reply.ok ? reply.json() : null))
          .catch(() => null),
      );
    return lightbox.known.get(place);
  },

  // Fills in the words, at first those that are known without the server.
  tell(facts, recalled) {
    lightbox.cancel = undefined; // of the editor, which stood in their place
    const { text, parts: part, picture, pictures, at, group } = lightbox;
    const title = facts?.name ?? picture.name ?? "";
    lightbox.dialog.setAttribute("aria-label", title || "Picture");
    part.full.alt = facts ? title : "";
    part.small.alt = facts ? "" : title;
    const place = pictures.length > 1 ? `${(at + 1).toLocaleString("en")} of ${pictures.length.toLocaleString("en")}` : "";
    const found = { sides: [], ...recalled, ...lightbox.found(facts?.file_name) };
    const list = document.createElement("dl");
    const row = (term, ...words) => {
      const said = document.createElement("dd");
      said.append(...words);
      list.append(text("dt", term), said);
    };
    for (const [side, words] of found.sides) row(side, words);
    if (found.identifier) row("Identifier", text("code", found.identifier));
    if (facts) row("File", facts.file_name);
    if (facts?.album) row("Album", facts.album);
    const captions = text("ul", "", "captions-of");
    for (const caption of facts?.captions.slice(facts.written.includes(title) ? 0 : 1) ?? []) {
      const item = document.createElement("li");
      if (facts.written.includes(caption)) item.append(text("span", "written by the model", "written"), " ");
      item.append(caption);
      captions.append(item);
    }
    const parts = [text("p", [place, group].filter(Boolean).join(" · "), "place"), text("h2", title)];
    if (captions.children.length) parts.push(captions);
    if (found.said) parts.push(text("p", `The model says: “${found.said}”`, "said"));
    part.facts.replaceChildren(...parts, list);
    if (facts) Object.assign(part.save, { href: facts.large, download: facts.file_name.split("/").at(-1) });
    for (const part_ of [part.edit, part.forget]) part_.hidden = !facts?.own;
    part.copy.hidden = !(navigator.clipboard?.write && window.ClipboardItem);
    part.like.hidden = !gcr.sends?.results;
  },

  // What the answer on the page says of a picture.
  found(file) {
    const root = document.querySelector("#results .results[data-found]");
    return root?.dataset.memory === lightbox.picture.memory ? JSON.parse(root.dataset.found)[file] : undefined;
  },

  say(words) {
    const { status } = lightbox.parts;
    status.textContent = words;
    clearTimeout(lightbox.saying);
    lightbox.saying = setTimeout(() => (status.textContent = ""), lightbox.SHOWN_MS);
  },

  async copy() {
    const { full, small } = lightbox.parts, image = lightbox.parts.stage.matches(".sharp") ? full : small;
    const canvas = lightbox.make("canvas", { width: image.naturalWidth, height: image.naturalHeight });
    canvas.getContext("2d").drawImage(image, 0, 0);
    const png = new Promise((done) => canvas.toBlob(done, "image/png"));
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
      lightbox.say("The picture is in the clipboard.");
    } catch {
      lightbox.say("The browser does not let the page copy pictures: save it instead.");
    }
  },

  // Asks with the picture.
  async like() {
    const { memory, index } = lightbox.picture, facts = await lightbox.facts({ memory, index });
    await lightbox.close();
    address.note({ memory, q: "", album: "", tab: address.FIRST_TAB });
    address.turn(address.FIRST_TAB);
    gcr.sends.results({ do: "like", memory, file: facts.file_name });
    scrollTo({ top: 0, behavior: "smooth" });
  },

  async forget() {
    const { memory } = lightbox.picture, facts = await lightbox.facts(lightbox.picture);
    lightbox.parts.forget.disabled = true;
    const { mistake } = await lightbox.change({ do: "forget", files: [facts.file_name] });
    lightbox.parts.forget.disabled = false;
    if (mistake) return lightbox.say(mistake);
    await lightbox.close();
    lightbox.offerUndo(memory, [facts.file_name], facts.name);
  },

  // Says what was forgotten since the line was there, and brings it back if asked to.
  offerUndo(memory, forgotten, name = "") {
    const { make } = lightbox, before = lightbox.undo?.memory === memory ? lightbox.undo.files : [];
    lightbox.undo?.remove();
    const files = [...before, ...forgotten];
    const what = files.length > 1 ? `${files.length.toLocaleString("en")} pictures` : `“${name || files[0]}”`;
    const line = gcr.line(files.length > 1 ? `${what} are forgotten.` : `${what} is forgotten.`);
    const remove = () => {
      line.remove();
      lightbox.undo = undefined;
    };
    lightbox.undo = { memory, files, remove };
    const undo = make("button", { type: "button", className: "undo", textContent: "Undo" });
    const away = make("button", { type: "button", className: "away", textContent: "×", onclick: remove });
    away.setAttribute("aria-label", "Dismiss");
    undo.onclick = async () => {
      undo.disabled = true;
      line.words.textContent = `Bringing ${what} back…`;
      const { mistake } = await lightbox.change({ do: "restore", files }, memory);
      line.words.textContent = mistake ?? `${what} ${files.length > 1 ? "are" : "is"} back.`;
      undo.remove();
      lightbox.undo = undefined;
      if (!mistake) setTimeout(line.remove, lightbox.SHOWN_MS);
    };
    line.words.after(undo, away);
    undo.focus();
  },

  // Changes the memory of the picture. Whoever shows some of it hears of that, as pictures may have other indices then.
  async change(change, memory = lightbox.picture.memory) {
    const headers = { "Content-Type": "application/json" };
    let answer;
    try {
      answer = await (await fetch(`gallery/${memory}`, { method: "POST", headers, body: JSON.stringify(change) })).json();
    } catch {
      return { mistake: "Nothing was changed, as nothing answers: try it again." };
    }
    if (answer.mistake) return answer;
    lightbox.known.clear();
    if (memory === (address.now.memory || address.SHIPPED)) gcr.sends.results({ do: "again", memory });
    document.dispatchEvent(new CustomEvent("memory-changed", { detail: { memory } }));
    return answer;
  },

  // The captions as lines of a text, in the place of the facts.
  async edit() {
    const { make, text, parts: part, picture } = lightbox, facts = await lightbox.facts(picture);
    const form = make("form", { className: "editor" }), label = text("label", "Captions, one a line");
    const field = make("textarea", { value: facts.captions.join("\n"), rows: 5 });
    const keep = text("button", "Save captions", "primary"), no = make("button", { type: "button", textContent: "Cancel" });
    const row = text("p", "", "does");
    label.append(field);
    row.append(keep, no);
    form.append(label, row);
    part.facts.replaceChildren(form);
    field.focus();
    const back = (facts) => {
      lightbox.tell(facts);
      lightbox.recall(picture, facts);
      part.edit.focus();
    };
    lightbox.cancel = no.onclick = () => back(facts);
    form.onsubmit = async (event) => {
      event.preventDefault();
      keep.disabled = true;
      keep.textContent = "Saving…";
      const answer = await lightbox.change({ do: "caption", files: [facts.file_name], captions: gcr.lines(field.value) });
      if (answer.mistake) {
        lightbox.say(answer.mistake);
        keep.disabled = false;
        keep.textContent = "Save captions";
        return;
      }
      back(await lightbox.facts(picture));
      lightbox.say(lightbox.saved(answer));
    };
  },

  // Captions may be trained in later: rows that several pictures share do not move at once, nor those of many.
  saved: ({ waiting }, count = 1) =>
    waiting
      ? "Saved. Consolidate the memory, under Memorise, to have them found by these captions."
      : `Saved: ${count === 1 ? "the picture is" : "they are"} found by these captions now.`,

  // However it was closed, the focus goes to the picture that was seen last, and its entry leaves the history.
  closed() {
    lightbox.cancel = undefined;
    const { memory, index } = lightbox.picture;
    const all = [...document.querySelectorAll(`[data-picture="${index}"]`)];
    const seen = all.find((one) => one.closest("[data-pictures]")?.dataset.pictures === lightbox.group);
    seen?.closest(".weaker")?.setAttribute("open", "");
    const mine = all.filter((one) => one.closest("[data-memory]")?.dataset.memory === memory && one.checkVisibility());
    (mine.find((one) => one.closest("[data-pictures]")?.dataset.pictures === lightbox.group) ?? mine[0])?.focus();
    lightbox.leaving = Boolean(history.state?.lightbox);
    if (lightbox.leaving) history.back();
    else lightbox.done?.();
  },
};
window.lightbox = lightbox;

// Back closes it; whoever else listens is not to take that for another address.
addEventListener(
  "popstate",
  (event) => {
    if (!lightbox.leaving && !lightbox.dialog?.open) return;
    event.stopImmediatePropagation();
    if (lightbox.leaving) lightbox.done?.();
    else lightbox.dialog.close();
    lightbox.leaving = false;
  },
  true,
);

document.addEventListener("click", async ({ target }) => {
  const forget = target.closest?.("button[data-forget]");
  if (!forget) return;
  forget.disabled = true;
  const { memory } = forget.closest("[data-memory]").dataset, file = forget.dataset.forget;
  const { mistake } = await lightbox.change({ do: "forget", files: [file] }, memory);
  forget.disabled = false;
  if (!mistake) return lightbox.offerUndo(memory, [file], forget.dataset.name);
  const line = gcr.line(mistake);
  setTimeout(line.remove, lightbox.SHOWN_MS);
});

document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("[data-picture]");
  if (!button) return;
  const group = button.closest("[data-pictures]") ?? button;
  const all = group === button ? [button] : [...group.querySelectorAll("[data-picture]")];
  const pictures = all.map((one) => ({
    memory: one.closest("[data-memory]").dataset.memory,
    index: Number(one.dataset.picture),
    url: (one.querySelector("img") ?? one).currentSrc,
    name: one.querySelector("img")?.alt || one.textContent,
    whole: one.matches(".whole, .drawing"),
  }));
  lightbox.open(pictures, all.indexOf(button), group.dataset.pictures);
});
