// What the page does in the browser: lights up twins, passes on what is clicked, asks before what cannot be undone,
// uploads what is dropped. The server renders; nothing here makes HTML from text that came from outside.

const gcr = {
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
    // A rendering gives an element to another row by changing its data: what counts is what a person saw.
    const seen = new WeakMap();
    element.addEventListener("focusin", ({ target }) => seen.set(target, { ...target.dataset }));
    const send = (data, fields = {}) => trigger(name, { ...data, ...fields });
    element.addEventListener("click", async (event) => {
      const button = event.target.closest("button[data-do]");
      if (!button || button.type === "submit") return;
      event.preventDefault();
      const data = { ...button.dataset };
      const ask = gcr.dialogs[data.ask];
      const fields = ask ? await ask(data) : {};
      if (!fields) return;
      if (data.do === "search") gcr.address("search");
      send(data, fields);
    });
    element.addEventListener("submit", (event) => {
      event.preventDefault();
      send(event.target.dataset, Object.fromEntries(new FormData(event.target)));
      document.querySelector("#tabs").scrollIntoView({ behavior: "smooth" });
    });
    element.addEventListener("change", (event) => {
      const field = event.target;
      if (field.type === "file") return;
      if (field.matches("[data-do]")) {
        // What is shown counts as the server's from here on: the next rendering may then replace it.
        if (field.matches("textarea")) field.setAttribute("value", field.value);
        send(seen.get(field) ?? field.dataset, { value: field.type === "checkbox" ? field.checked : field.value });
      }
    });
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
      upload(zone, await gcr.dropped(event.dataTransfer));
    });
    element.addEventListener("change", (event) => {
      const input = event.target, zone = over(event);
      if (!zone || input.type !== "file") return;
      const files = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
      input.value = "";
      upload(zone, files);
    });
  },

  // Every file of a drop, those in folders too, each with its path below what was dropped.
  async dropped(transfer) {
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
  line(text) {
    const box = Object.assign(document.createElement("div"), { className: "notice good" });
    const words = Object.assign(document.createElement("p"), { textContent: text });
    words.setAttribute("role", "status");
    box.append(words);
    document.querySelector(".gradio-container").append(box);
    return { words, remove: () => box.remove() };
  },

  // The tab stands in the address, so that a reload comes back to it.
  address(tab) {
    history.replaceState(null, "", tab === "memorise" ? "#tab=memorise" : location.pathname + location.search);
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

// Gradio leaves the text field of a multimodal box without a name for screen readers.
gcr.atFirst = () => {
  const box = document.querySelector("#query textarea"), tab = document.querySelector("#memorise-button");
  if (!box || !tab) return setTimeout(gcr.atFirst, 50);
  box.setAttribute("aria-label", "Query");
  if (location.hash === "#tab=memorise") tab.click();
};
document.addEventListener("click", (event) => {
  const tab = event.target.closest?.("#tabs button[role=tab]");
  if (tab) gcr.address(tab.id.replace("-button", ""));
});

// A card and its twin on the other side light up together.
document.addEventListener("mouseover", (event) => {
  const card = event.target.closest?.(".card[data-image]");
  for (const lit of document.querySelectorAll(".card.lit")) lit.classList.remove("lit");
  if (!card) return;
  const twins = document.querySelectorAll(`.card[data-image="${card.dataset.image}"]`);
  if (twins.length > 1) for (const twin of twins) twin.classList.add("lit");
});
