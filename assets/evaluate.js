// The Test it tab: queries are sent, what comes of them is shown. The server renders; one's last test goes on, and stays,
// whether the page is open or not.

const evaluateTab = {
  FRESH_MS: 500, // how often it is asked how far a test is
  MOST_BYTES: 3 * 2 ** 20, // of a file with queries
  MANY: 20_000, // characters of a paste that a browser would take long to put in by itself

  begin(element) {
    const part = (name) => element.querySelector(`[data-part="${name}"]`);
    Object.assign(evaluateTab, { element, part, version: "", file: null });
    part("form").addEventListener("submit", (event) => {
      event.preventDefault();
      evaluateTab.go();
    });
    part("form").addEventListener("change", () => evaluateTab.offer());
    part("text").addEventListener("paste", (event) => {
      const text = event.clipboardData.getData("text/plain"), { selectionStart, selectionEnd } = event.target;
      if (text.length < evaluateTab.MANY) return;
      event.preventDefault();
      event.target.setRangeText(text, selectionStart, selectionEnd, "end");
    });
    part("choose").addEventListener("change", ({ target }) => evaluateTab.choose(target));
    element.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-does]"), link = event.target.closest("a[data-asks]");
      if (button) evaluateTab[button.dataset.does]();
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      address.go({ memory: link.dataset.memory, q: link.dataset.asks, album: "", tab: address.FIRST_TAB });
      scrollTo({ top: 0 });
    });
    element.addEventListener("change", ({ target }) => {
      if (target.matches('[data-part="tested"], [data-part="kind"]')) evaluateTab.misses();
    });
    const watch = new MutationObserver(() => evaluateTab.memories());
    watch.observe(document.getElementById("memory-choice"), { childList: true, subtree: true });
    // A form that is sent before would leave the page, and a click would be lost.
    part("go").disabled = part("example").disabled = false;
    evaluateTab.open();
    evaluateTab.choose(part("choose")); // a file that was chosen before this script was there
  },

  // The tab was turned to, or a memory chosen.
  open() {
    if (!evaluateTab.element) return; // `begin` opens it
    evaluateTab.memories();
    evaluateTab.load();
  },

  // The memories of the Search tab's list, the one that is open chosen; nothing to choose while there is one alone.
  memories() {
    const { part } = evaluateTab, options = [...document.querySelectorAll("#memory-choice option")];
    const now = address.now.memory || address.SHIPPED, chosen = new Set(evaluateTab.chosen());
    const same = evaluateTab.now === now && part("memories").children.length;
    evaluateTab.now = now;
    const rows = options.map(({ value, textContent }) => {
      const label = document.createElement("label"), box = document.createElement("input");
      Object.assign(box, { type: "checkbox", name: "memory", value, checked: same ? chosen.has(value) : value === now });
      label.append(box, ` ${textContent}`);
      return label;
    });
    part("memories").replaceChildren(...rows);
    part("which").hidden = !options.length;
    evaluateTab.offer();
  },

  chosen: () => [...evaluateTab.element.querySelectorAll("input[name=memory]:checked")].map((box) => box.value),
  asked: () => (evaluateTab.part("which").hidden ? [address.SHIPPED] : evaluateTab.chosen()),
  source: () => evaluateTab.element.querySelector("input[name=source]:checked"),

  // Shows what belongs to the queries that are chosen.
  offer() {
    const { element, part } = evaluateTab, kept = element.querySelector("input[value=kept_out]");
    if (kept) {
      kept.parentElement.hidden = evaluateTab.asked().join() !== address.SHIPPED;
      if (kept.checked && kept.parentElement.hidden) element.querySelector("input[value=pasted]").checked = true;
    }
    part("pasted").hidden = evaluateTab.source().value !== "pasted";
    part("text").hidden = Boolean(evaluateTab.file);
    part("file").hidden = !evaluateTab.file;
  },

  async choose(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    const size = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;
    if (file.size > evaluateTab.MOST_BYTES)
      return evaluateTab.say(
        `${file.name} has ${size(file.size)}, the limit is ${size(evaluateTab.MOST_BYTES)}: use \`gcr evaluate\` for it`,
      );
    const bytes = new Uint8Array(await file.arrayBuffer());
    const wide = { 255254: "utf-16le", 254255: "utf-16be" }[`${bytes[0]}${bytes[1]}`];
    try {
      const text = new TextDecoder(wide ?? "utf-8", { fatal: true }).decode(bytes);
      evaluateTab.file = { text };
    } catch {
      return evaluateTab.say(`${file.name} is no text in UTF-8: save it as CSV UTF-8`);
    }
    const lines = evaluateTab.file.text.split("\n").filter((line) => line.trim()).length;
    evaluateTab.part("file-name").textContent = `${file.name}, ${lines.toLocaleString("en")} line${lines === 1 ? "" : "s"}`;
    evaluateTab.say("");
    evaluateTab.offer();
  },

  unchoose() {
    evaluateTab.file = null;
    evaluateTab.offer();
    evaluateTab.part("text").focus();
  },

  async example() {
    const [memory] = evaluateTab.asked(), { file } = evaluateTab, field = evaluateTab.part("text"), typed = field.value;
    const { text, mistake } = await evaluateTab.read(`evaluation/example?memory=${memory ?? ""}`);
    evaluateTab.say(mistake);
    if (!text || evaluateTab.file !== file || field.value !== typed) return; // other queries have been put in since
    evaluateTab.file = null;
    field.value = text;
    evaluateTab.offer();
  },

  async go() {
    const { part } = evaluateTab, text = evaluateTab.file?.text ?? part("text").value;
    part("go").disabled = true;
    evaluateTab.say("");
    const source = evaluateTab.source().value;
    const { mistake } = await evaluateTab.send({
      do: "begin", memories: evaluateTab.asked(), source, text: source === "pasted" ? text : "",
    });
    part("go").disabled = false;
    if (mistake) return evaluateTab.say(mistake);
    await evaluateTab.load();
    part("progress").scrollIntoView({ block: "nearest" });
  },

  async stop() {
    await evaluateTab.send({ do: "stop" });
    evaluateTab.load();
  },

  say(words) {
    const line = evaluateTab.part("mistake");
    line.textContent = words ?? "";
    line.hidden = !words;
  },

  async read(path, options) {
    try {
      return await (await fetch(path, options)).json();
    } catch {
      return { mistake: "Nothing answers: is the app still running? It is tried again." };
    }
  },

  send(asked) {
    const headers = { "Content-Type": "application/json" };
    return evaluateTab.read("evaluation", { method: "POST", headers, body: JSON.stringify(asked) });
  },

  // How far the test is, and what has come of it.
  async load() {
    clearTimeout(evaluateTab.timer);
    const loads = (evaluateTab.loads = evaluateTab.read(`evaluation?seen=${evaluateTab.version}`));
    const now = await loads;
    if (loads !== evaluateTab.loads) return; // there is a later one
    evaluateTab.progress(now.progress);
    if (now.mistake) evaluateTab.say(now.mistake);
    if (now.progress || (now.mistake && evaluateTab.runs))
      evaluateTab.timer = setTimeout(() => evaluateTab.load(), evaluateTab.FRESH_MS);
    if (now.results === undefined) return;
    evaluateTab.version = now.version;
    evaluateTab.part("results").innerHTML = now.results;
    if (evaluateTab.runs) evaluateTab.part("told").textContent = "Done: the results are below.";
    evaluateTab.runs = false;
    evaluateTab.misses();
  },

  // Of what is there already only numbers and words change, so that the button keeps the focus.
  progress(html) {
    const { part } = evaluateTab, place = part("progress");
    place.hidden = !html;
    part("results").classList.toggle("former", Boolean(html));
    if (!html) return place.replaceChildren();
    evaluateTab.runs = true;
    evaluateTab.say("");
    part("told").textContent = "";
    const fresh = Object.assign(document.createElement("template"), { innerHTML: html }).content;
    if (!place.children.length) return place.replaceChildren(fresh);
    const bar = place.querySelector("progress"), now = place.querySelector(".now"), words = fresh.querySelector(".now");
    Object.assign(bar, { max: fresh.querySelector("progress").max, value: fresh.querySelector("progress").value });
    if (now.textContent !== words.textContent) now.textContent = words.textContent;
    place.querySelector(".facts").replaceChildren(...fresh.querySelector(".facts").children);
  },

  // Shows the first misses of the kind that is chosen, or more of them.
  async misses(start = 0) {
    const { part } = evaluateTab;
    if (!part("misses")) return;
    const kind = part("kind").value, place = part("tested").value;
    const asks = (evaluateTab.asks = evaluateTab.read(`evaluation/misses?place=${place}&kind=${kind}&start=${start}`));
    const { cards, total, mistake } = await asks;
    if (asks !== evaluateTab.asks) return;
    if (mistake) return evaluateTab.say(mistake);
    const list = part("misses");
    if (!start) list.replaceChildren();
    list.insertAdjacentHTML("beforeend", cards);
    part("many").textContent = total ? `${total.toLocaleString("en")} quer${total === 1 ? "y" : "ies"}` : "None: nothing was missed here.";
    part("more").hidden = list.children.length >= total;
  },

  more: () => evaluateTab.misses(evaluateTab.part("misses").children.length),
};
window.evaluateTab = evaluateTab;
