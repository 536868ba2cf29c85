// What the page does in the browser: lights up twins, passes on what is clicked, asks before what cannot be undone,
// uploads what is dropped. The server renders; nothing here makes HTML from text that came from outside.

const gcr = {
  sends: {}, // the id of a part of the page → what passes an event on to the server from there

  // Passes on clicks, forms and edits of elements with data-do as one event, with their data and form fields.
  listen(element, trigger, name, watch) {
    // A rendering closes what was open: open it again.
    const open = new Set();
    const of = (details) => details.querySelector("summary").textContent;
    element.addEventListener(
      "toggle",
      ({ target }) => target.matches("details") && open[target.open ? "add" : "delete"](of(target)),
      true,
    );
    watch("value", () => {
      for (const details of element.querySelectorAll("details")) details.open ||= open.has(of(details));
    });
    // Whatever follows an edit comes after it.
    const send = async (data, fields = {}) => {
      await edits.settled();
      trigger(name, { ...data, ...fields });
    };
    gcr.sends[element.parentElement.closest("[id]").id] = send;
    const left = gcr.fields(element, send, watch);
    element.addEventListener("click", async (event) => {
      const button = event.target.closest("button[data-do]");
      if (!button || button.type === "submit") return;
      event.preventDefault();
      const data = { ...button.dataset };
      const ask = gcr.dialogs[data.ask];
      const fields = ask ? await ask(data) : {};
      if (!fields) return;
      if (data.do === "search") {
        if (document.querySelector("#notice .good")) send({ do: "heard" }); // it says that one can be searched
        scrollTo({ top: 0 });
        return address.go({ memory: data.memory, q: "", album: "", tab: "search" });
      }
      if (data.do === "choose") return left(gcr.typed(data, data.value));
      const { mistake } = data.do === "rename" ? await edits.keep({ ...data, ...fields }) : {};
      send(mistake ? { do: "refused", mistake } : data, fields);
    });
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      send(event.target.dataset, Object.fromEntries(new FormData(event.target)));
      document.querySelector("#tabs").scrollIntoView({ behavior: "smooth" });
    });
    element.addEventListener("change", ({ target }) => {
      if (target.matches("[data-do]:not([data-which])")) send(target.dataset, { value: target.checked });
    });
  },

  // What was typed or chosen, by its field, until the server has rendered that: it stands there whatever is rendered
  // before. `edition`: by which the server has it; `known`: lines that the person has seen there.
  texts: new Map(),
  field: ({ gallery, file, which }) => [gallery, file, which].join(" "),
  lines: (text) => text.split("\n").map((line) => line.trim().replace(/\s+/g, " ")).filter(Boolean),

  typed(data, value, before = "", caret = 0) {
    const key = gcr.field(data), last = gcr.texts.get(key);
    const known = last ? [...last.known, ...(last.kept ? gcr.lines(last.value) : [])] : gcr.lines(before);
    const text = { data: { ...data }, value, caret, known: new Set(known) };
    gcr.texts.set(key, text);
    return text;
  },

  // Has the server keep a text, once; a picture's captions all together, as its row shows them.
  keep(text) {
    const { do: verb, gallery, file, which } = text.data;
    const shown = (which) =>
      gcr.texts.get(gcr.field({ gallery, file, which }))?.value ??
      [...document.querySelectorAll(`textarea[data-gallery="${gallery}"][data-which="${which}"]`)].find(
        (field) => field.dataset.file === file,
      )?.value;
    const said = verb === "caption" ? { file, own: shown("own"), models: shown("models") } : { which, value: text.value };
    text.kept ??= edits.keep({ do: verb, gallery, ...said }).then((answer) => {
      text.edition = answer.edition;
      return answer;
    });
    return text.kept;
  },

  // Fields with data-which are kept when they are left, and when the page is. Returns what does so for a text.
  fields(element, send, watch) {
    let at; // the field that has the focus, as the person sees it
    const left = async (text) => {
      if (!text || text.left) return;
      text.left = true;
      const { mistake } = await gcr.keep(text);
      send(mistake ? { do: "refused", mistake } : text.data);
    };
    const of = ({ target }) => gcr.texts.get(gcr.field(target.dataset));
    element.addEventListener("focusin", ({ target }) => {
      at = target.matches("[data-which]") ? gcr.field(target.dataset) : undefined;
    });
    element.addEventListener("input", ({ target }) => {
      if (target.matches("[data-which]"))
        gcr.typed(target.dataset, target.value, target.getAttribute("value") ?? "", target.selectionEnd);
    });
    element.addEventListener("change", (event) => left(of(event)));
    element.addEventListener("focusout", (event) => {
      at = undefined;
      left(of(event));
    });
    const leave = () => {
      const text = gcr.texts.get(at);
      if (text && !document.activeElement.list) gcr.keep(text); // the beginning of a model's name is none
    };
    addEventListener("pagehide", leave);
    document.addEventListener("visibilitychange", () => document.hidden && leave());

    const show = (field) => {
      const key = gcr.field(field.dataset), now = field.getAttribute("value") ?? "";
      let text = gcr.texts.get(key);
      if (text?.edition <= Number(field.closest("[data-edition]").dataset.edition)) {
        gcr.texts.delete(key);
        text = undefined;
      }
      if (field.type === "radio") field.checked = text ? field.value === text.value : field.defaultChecked;
      else if (field.matches("select")) field.value = text?.value ?? (field.querySelector("[selected]") ?? field[0]).value;
      else if (!text) field.value === now || (field.value = now);
      else {
        // Lines that came from elsewhere, as a corrected one does from the model's field, go before the person's.
        const has = gcr.lines(text.value);
        const more = field.matches("textarea") ? gcr.lines(now).filter((line) => !text.known.has(line) && !has.includes(line)) : [];
        if (more.length) {
          const value = [...more, text.value].join("\n");
          text = gcr.typed(text.data, value, "", text.caret + value.length - text.value.length);
          for (const line of more) text.known.add(line);
        }
        if (field.value !== text.value) {
          field.value = text.value;
          if (field.matches("textarea")) field.setSelectionRange(text.caret, text.caret);
        }
        if (key !== at) left(text.kept ? undefined : text);
      }
    };
    const render = () => {
      const fields = [...element.querySelectorAll("[data-edition] [data-which]")];
      fields.forEach(show);
      // The focus goes with the row that a rendering gave another place; where that is gone, its field was left.
      const active = document.activeElement, was = at, text = gcr.texts.get(was);
      if (!was || (element.contains(active) && gcr.field(active.dataset) === was)) return;
      const there = fields.find((field) => gcr.field(field.dataset) === was);
      at = element.contains(active) && active.matches("[data-which]") ? gcr.field(active.dataset) : undefined;
      if (!there) return left(text);
      there.focus();
      if (text && there.matches("textarea")) there.setSelectionRange(text.caret, text.caret);
    };
    watch("value", render);
    render();
    return left;
  },

  // A place that takes files, folders and zips: dropped, or chosen with the inputs in it.
  take(element, trigger, name) {
    const over = (event) => event.target.closest?.("[data-drop]");
    const upload = async (zone, files) => {
      if (!files.length || zone.dataset.busy) return;
      const data = { ...zone.dataset };
      zone.dataset.busy = "yes";
      const bar = zone.querySelector("progress"), words = zone.querySelector(".uploading span");
      zone.classList.add("busy");
      try {
        const sent = await gcr.upload(files, (bytes, total, count) => {
          bar.max = total;
          bar.value = bytes;
          words.textContent = `Uploading ${count.toLocaleString("en")} of ${files.length.toLocaleString("en")} files…`;
        });
        words.textContent = "Uploaded.";
        trigger(name, { ...data, files: sent });
      } catch (error) {
        words.textContent = `The upload broke off (${error.message}): try it again.`;
      }
      delete zone.dataset.busy;
      zone.classList.remove("busy");
    };
    for (const kind of ["dragenter", "dragover"])
      element.addEventListener(kind, (event) => {
        const zone = over(event);
        if (!zone) return;
        event.preventDefault();
        zone.classList.add("over");
      });
    for (const kind of ["dragleave", "drop"])
      element.addEventListener(kind, (event) => over(event)?.classList.remove("over"));
    element.addEventListener("drop", async (event) => {
      const zone = over(event);
      if (!zone) return;
      event.preventDefault();
      upload(zone, await drops.files(event.dataTransfer));
    });
    element.addEventListener("files", (event) => {
      event.preventDefault(); // they are taken
      upload(over(event), event.detail);
    });
    const chosen = (input) => {
      const zone = input.closest("[data-drop]");
      if (!zone || input.type !== "file") return;
      const files = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
      input.value = "";
      upload(zone, files);
    };
    element.addEventListener("change", ({ target }) => chosen(target));
    element.querySelectorAll("input").forEach(chosen); // files that were chosen before this script was there
  },

  // Sends files in batches; returns [{path, name}]: where the server put each, and its name here.
  async upload(files, onProgress) {
    const FILES = 100, BYTES = 32 * 2 ** 20;
    const total = files.reduce((sum, { file }) => sum + file.size, 0);
    const sent = [];
    let done = 0;
    for (let start = 0; start < files.length; ) {
      const form = new FormData();
      let bytes = 0, end = start;
      while (end < files.length && end - start < FILES && (end === start || bytes + files[end].file.size <= BYTES)) {
        form.append("files", files[end].file);
        bytes += files[end++].file.size;
      }
      const paths = await gcr.post("gradio_api/upload", form, (loaded) =>
        onProgress(done + Math.min(loaded, bytes), total, start),
      );
      paths.forEach((path, i) => sent.push({ path, name: files[start + i].name }));
      done += bytes;
      start = end;
      onProgress(done, total, start);
    }
    return sent;
  },

  post(address, form, onProgress) {
    return new Promise((yes, no) => {
      const request = new XMLHttpRequest();
      request.open("POST", address);
      request.upload.onprogress = (event) => onProgress(event.loaded);
      request.onload = () =>
        request.status === 200 ? yes(JSON.parse(request.responseText)) : no(Error(request.responseText.slice(0, 200)));
      request.onerror = () => no(Error("no connection"));
      request.send(form);
    });
  },

  // Dialogs before an action: each resolves to the fields to send along, or null where the person thinks better of it.
  dialogs: {
    sure: ({ words, verb }) => gcr.dialog(words, verb),
    name: ({ words, verb, name }) => {
      const input = Object.assign(document.createElement("input"), { name: "name", value: name, maxLength: 80, required: true });
      input.setAttribute("aria-label", "Name");
      return gcr.dialog(words, verb, input);
    },
    push: ({ words, verb, name, token }) => {
      const make = (kind, set) => Object.assign(document.createElement(kind), set);
      const labelled = (words, field) => {
        const label = make("label", { className: field.type === "checkbox" ? "check" : "" });
        label.append(...(field.type === "checkbox" ? [field, words] : [words, field]));
        return label;
      };
      return gcr.dialog(
        words,
        verb,
        labelled("Name on the hub", make("input", { name: "repository", value: name, maxLength: 193, required: true })),
        labelled(
          "Token that may write, from huggingface.co/settings/tokens",
          make("input", { name: "token", type: "password", autocomplete: "off", placeholder: token, required: !token }),
        ),
        labelled("with the gallery’s pictures", make("input", { name: "pictures", type: "checkbox" })),
        labelled("public: everybody can see it", make("input", { name: "public", type: "checkbox" })),
      );
    },
    picture: async ({ words, verb }) => {
      const file = Object.assign(document.createElement("input"), { type: "file", accept: "image/*", multiple: true, required: true });
      file.setAttribute("aria-label", "Pictures");
      const text = Object.assign(document.createElement("textarea"), { name: "captions", rows: 3 });
      text.placeholder = "Captions, one a line; every picture gets them all";
      text.setAttribute("aria-label", text.placeholder);
      const fields = await gcr.dialog(words, verb, file, text);
      if (!fields) return null;
      const files = [...file.files].map((file) => ({ file, name: file.name }));
      const line = gcr.line("Uploading the pictures…");
      try {
        const sent = await gcr.upload(files, (bytes, total) => {
          line.words.textContent = `Uploading the pictures… ${Math.round((100 * bytes) / Math.max(total, 1))} %`;
        });
        line.remove();
        return { ...fields, files: sent };
      } catch (error) {
        line.words.textContent = `The upload broke off (${error.message}): add the pictures again.`;
        setTimeout(line.remove, 10_000);
        return null;
      }
    },
  },

  // A line at the foot of the window about what goes on in the browser.
  line(text, kind = "good") {
    const box = Object.assign(document.createElement("div"), { className: `notice ${kind}` });
    const words = Object.assign(document.createElement("p"), { textContent: text });
    words.setAttribute("role", kind ? "status" : "alert");
    box.append(words);
    document.querySelector(".gradio-container").append(box);
    return { words, remove: () => box.remove() };
  },

  dialog(words, verb, ...fields) {
    const dialog = document.createElement("dialog");
    dialog.className = "ask";
    const form = Object.assign(document.createElement("form"), { method: "dialog" });
    const text = Object.assign(document.createElement("p"), { textContent: words });
    const row = Object.assign(document.createElement("p"), { className: "does" });
    const no = Object.assign(document.createElement("button"), { type: "button", textContent: "Cancel" });
    const yes = Object.assign(document.createElement("button"), { value: "yes", textContent: verb, className: "primary" });
    row.append(no, yes);
    form.append(text, ...fields, row);
    dialog.append(form);
    document.querySelector(".gradio-container").append(dialog);
    dialog.setAttribute("aria-label", words);
    dialog.showModal();
    (form.querySelector("input, textarea") ?? no).focus();
    return new Promise((answer) => {
      no.onclick = () => dialog.close("no");
      dialog.onclose = () => {
        const given = Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string"));
        answer(dialog.returnValue === "yes" ? given : null);
        dialog.remove();
      };
    });
  },
};
window.gcr = gcr;

// Gradio leaves the text field of a multimodal box without a name for screen readers. A link's query is asked.
gcr.atFirst = () => {
  const box = document.querySelector("#query textarea"), tab = document.querySelector("#memorise-button");
  if (!box || !tab || !address.visit) return setTimeout(gcr.atFirst, 50);
  box.setAttribute("aria-label", "Query");
  address.turn(address.now.tab);
  if (address.now.q) address.visit();
};

// A card and its twin on the other side light up together.
document.addEventListener("mouseover", (event) => {
  const card = event.target.closest?.(".card[data-image]");
  for (const lit of document.querySelectorAll(".card.lit")) lit.classList.remove("lit");
  if (!card) return;
  const twins = document.querySelectorAll(`.card[data-image="${card.dataset.image}"]`);
  if (twins.length > 1) for (const twin of twins) twin.classList.add("lit");
});
