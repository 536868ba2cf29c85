// The address says what is shown: ?memory=…&q=…&album=…#tab=…. Asking, choosing and turning to a tab add an entry to the
// browser's history; a link, Back, Forward and a reload show what the address says. A picture has no address.

const address = {
  SHIPPED: "shipped",
  FIRST_TAB: "search",
  LONGEST: 1000, // characters of a query that can be answered
  HEARD_MS: 200, // how long a tab may take to turn
  SHOWN_MS: 5000, // how long the page says what it has done

  read() {
    const given = new URLSearchParams(location.search), part = (name) => given.get(name) ?? "";
    const tab = /^#tab=([\w-]+)$/.exec(location.hash)?.[1] ?? address.FIRST_TAB;
    return { memory: part("memory"), q: part("q"), album: part("album"), tab };
  },

  // The address of a state. Parameters that are not the page's own stay as they are `besides` it.
  of({ memory, q, album, tab }, besides = location.search) {
    const all = new URLSearchParams(besides);
    for (const [name, value] of Object.entries({ memory, q, album })) value ? all.set(name, value) : all.delete(name);
    const search = all.toString() && `?${all}`;
    return location.pathname + search + (tab === address.FIRST_TAB ? "" : `#tab=${tab}`);
  },

  // Goes to what differs from now: asks a query, or for a change without one the last query again, a picture too.
  go(change, replace = false) {
    const before = address.now;
    address.note(change, replace);
    address.show(before, "q" in change, !("q" in change));
  },

  // Writes into the address what the page shows already.
  note(change, replace = false) {
    address.now = { ...address.now, ...change };
    if (address.now.memory === address.SHIPPED) address.now.memory = "";
    const to = address.of(address.now);
    if (to !== location.pathname + location.search + location.hash)
      history[replace ? "replaceState" : "pushState"](null, "", to);
    address.entitle();
  },

  show(before, asks = false, again = false) {
    const { memory, q, album, tab } = address.now;
    if (tab !== before.tab) address.turn(tab);
    if (!asks && memory === before.memory && q === before.q && album === before.album) return;
    address.again = again;
    address.visit?.();
  },

  // Clicks on a tab unless it is the one that is shown.
  turn(tab) {
    const button = document.getElementById(`${tab}-button`);
    if (button?.getAttribute("aria-selected") === "false") button.click();
  },

  entitle() {
    address.title ??= document.title;
    document.title = address.now.q ? `${address.now.q} · ${address.title}` : address.title;
  },

  // What the server is asked to show, and what is shown until it does: the choices, the box and the results.
  wanted: () => ({ ...address.now, again: address.again ?? false }),
  begin(entry, results) {
    const { memory, q, album } = address.now, keeps = address.again;
    return [
      memory || address.SHIPPED,
      album,
      keeps ? entry : { text: q, files: [] },
      keeps || q ? results : "",
    ];
  },

  // The part of the page through which the server is asked. It says where an address led nowhere, and what is shown.
  listen(element, visit, watch) {
    address.visit = visit;
    address.entitle();
    watch("value", () => {
      const { memory, album } = element.querySelector("[data-memory]")?.dataset ?? {};
      if (memory !== undefined) address.note({ memory, album }, true);
    });
  },

  // A list to choose a memory or an album from, with what the server offers.
  choices(element, props, watch, key) {
    const list = () => element.querySelector("select");
    // What the server says of the choice may be older than the choice.
    const chosen = () => (key === "memory" ? address.now.memory || address.SHIPPED : address.now.album);
    const show = () => setTimeout(() => list() && (list().value = chosen()));
    element.addEventListener("change", ({ target }) => {
      if (key === "memory") address.go({ memory: target.value, q: "", album: "" });
      else address.go({ album: target.value });
    });
    watch("value", show);
    watch("options", () => {
      show();
      const lost = address.now.memory && key === "memory" && props.value === address.now.memory;
      if (lost && !props.options.includes(`value="${props.value}"`))
        address.go({ memory: "", q: "", album: "" }, true);
    });
  },

  // The box was submitted.
  asked({ text, files }) {
    const long = text.length > 2 * address.LONGEST || [...text].length > address.LONGEST;
    address.note({ q: files.length || long ? "" : text.trim() });
  },

  async share() {
    const link = location.origin + address.of({ ...address.now, tab: address.FIRST_TAB }, "");
    const say = (words) => setTimeout(gcr.line(words).remove, address.SHOWN_MS);
    const mine = address.now.memory && document.querySelector("#memory-choice [data-private]");
    const alone = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
    const reach = mine ? "It opens in this browser only: the memory is yours." : alone ? "It opens on this computer only." : "";
    if (navigator.share && matchMedia("(pointer: coarse)").matches) {
      if (mine) say(`The link is made. ${reach}`);
      return navigator.share({ title: document.title, url: link }).catch(() => {});
    }
    if (!(await address.copy(link))) {
      const field = Object.assign(document.createElement("input"), { value: link, readOnly: true });
      field.setAttribute("aria-label", "Link");
      return gcr.dialog("The browser does not let the page copy the link: copy it here.", "Done", field);
    }
    say(`The link is copied. ${reach}`);
  },

  async copy(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // A page that is not served safely has no clipboard, and one in a frame may not use it.
      const field = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(field);
      field.select();
      const copied = document.execCommand("copy");
      field.remove();
      return copied;
    }
  },
};
address.now = address.read();

addEventListener("popstate", () => {
  const before = address.now;
  address.now = address.read();
  address.entitle();
  address.show(before);
});

document.addEventListener("click", ({ target }) => {
  const tab = target.closest?.("#tabs > * button[role=tab]")?.id.replace("-button", "");
  if (tab) {
    address.note({ tab });
    // Again until it is shown: a page that is still being built hears no click, and a busy one may turn back.
    setTimeout(() => tab === address.now.tab && address.turn(tab), address.HEARD_MS);
  }
  const example = target.closest?.("[data-q]");
  if (example) address.go({ q: example.dataset.q });
  if (target.closest?.("[data-share]")) address.share();
});

// "/" leads to the box from everywhere where nothing is typed.
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing || document.querySelector("dialog[open]"))
    return;
  event.preventDefault();
  address.go({ tab: address.FIRST_TAB });
  requestAnimationFrame(() => document.querySelector("#query textarea").focus());
});
