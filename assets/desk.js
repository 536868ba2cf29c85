// The Memorise tab in the browser: which pictures are selected, menus that close, and a page that stays true while
// something goes on elsewhere.

const desk = {
  ALIVE_MS: 1000, // how often the page asks what is there while a part of it changes by itself,
  REST_MS: 3000, // and while none does
  RENDERED_MS: 10_000, // how long a rendering that was asked for may take

  // Has the server render what has changed since it was rendered, by another tab of the visitor's or a training.
  // `shown`: what the parts were rendered of, as the server wrote it.
  follow(shown, stir) {
    let timer, alive = false, asked = 0, before;
    const look = async () => {
      clearTimeout(timer);
      desk.once();
      try {
        if (!document.hidden || alive) {
          const reply = await fetch("fresh"), state = await reply.json();
          alive = Boolean(state.alive);
          const stale = reply.ok && shown() && JSON.stringify(JSON.parse(shown())) !== JSON.stringify(state);
          const waits = before === shown() && Date.now() < asked + desk.RENDERED_MS;
          if (stale && !waits) {
            [asked, before] = [Date.now(), shown()];
            stir();
          }
        }
      } catch {
        // Nothing answers at the moment.
      }
      clearTimeout(timer);
      timer = setTimeout(look, alive ? desk.ALIVE_MS : desk.REST_MS);
    };
    document.addEventListener("visibilitychange", look);
    look();
  },

  // The pictures that are selected, on whatever page of the captions: those named, or all but those.
  gallery: "",
  names: new Set(),
  all: false,
  value: "", // the caption for them that is being typed
  place: undefined, // the page of the captions that was asked for last: {gallery, page, only}
  turned: undefined, // with what it was asked for: {page, label, below}
  made: 0,

  select(gallery = "", all = false) {
    desk.gallery = gallery;
    desk.names.clear();
    desk.all = all;
  },

  listen(element, trigger, watch) {
    const bar = () => element.querySelector(".chosen");
    const boxes = () => [...element.querySelectorAll("[data-pick]")];
    // An answer that was made for another page, and came after the one that was asked for, is asked for anew.
    const keepPlace = ({ gallery, page, only }) => {
      const wanted = desk.place, next = element.querySelector("[aria-label='Next pictures']");
      const fewer = (!next || next.disabled) && Number(page) < Number(wanted?.page);
      if (wanted?.gallery !== gallery || (only === wanted.only && (page === wanted.page || fewer)))
        desk.place = { gallery, page, only };
      else trigger("act", { do: "page", ...wanted });
    };
    // Who turned the page, and has gone nowhere else since, reads it from its top, and turns on from there.
    const turnedTo = ({ page }) => {
      const here = document.activeElement;
      if (page !== desk.turned?.page || (here !== document.body && here.dataset.do !== "page")) return;
      const steps = [...element.querySelectorAll(".bar .pager button:enabled")];
      (steps.find((step) => step.ariaLabel === desk.turned.label) ?? steps[0])?.focus({ preventScroll: true });
      if (desk.turned.below) element.querySelector(".table").scrollIntoView();
      desk.turned = undefined;
    };
    const show = () => {
      if (!bar()) return;
      const { gallery, only, listed } = bar().dataset;
      keepPlace(bar().dataset);
      turnedTo(bar().dataset);
      if (desk.gallery !== gallery || (desk.all && desk.only !== only)) desk.select(gallery);
      desk.only = only;
      for (const box of boxes()) {
        box.checked = desk.names.has(box.dataset.pick) !== desk.all;
        box.closest("li").classList.toggle("picked", box.checked);
      }
      const count = desk.all ? Number(listed) - desk.names.size : desk.names.size;
      bar().hidden = !count;
      bar().querySelector("b").textContent = `${count.toLocaleString("en")} selected`;
      const input = bar().querySelector("input");
      input.value = desk.value;
      if (desk.again) input.focus();
      desk.again = false;
    };
    const act = async (what) => {
      const { gallery, page } = bar().dataset, only = bar().dataset.only === "1", value = desk.value;
      const place = { gallery, page, only };
      const chosen = desk.all ? { all: true, except: [...desk.names] } : { pictures: [...desk.names] };
      if (what === "out") {
        await edits.settled();
        desk.select(gallery);
        return trigger("act", { do: "take_out", ...place, ...chosen });
      }
      const edit = { do: "caption_chosen", which: `${what} ${++desk.made}`, off: what === "take", value };
      desk.again = document.activeElement === bar().querySelector("input");
      const { mistake } = await edits.keep({ ...edit, ...place, ...chosen });
      if (!mistake && desk.value === value) desk.value = "";
      if (!mistake && desk.all && only) desk.select(gallery); // they have a caption now
      await edits.settled();
      trigger("act", mistake ? { do: "refused", mistake } : { do: "caption_chosen", ...place });
    };
    let last;
    element.addEventListener("change", ({ target }) => {
      const { do: verb, gallery } = target.dataset;
      if (verb === "only") desk.place = { gallery, page: "0", only: target.checked ? "1" : "0" };
    });
    element.addEventListener("click", ({ target, shiftKey }) => {
      const box = target.closest("[data-pick]"), button = target.closest("[data-choose]");
      const turn = target.closest("[data-do='page']");
      if (turn) {
        const { gallery, page, only } = turn.dataset;
        desk.place = { gallery, page, only };
        desk.turned = { page, label: turn.ariaLabel, below: !turn.closest(".bar") };
      }
      if (box) {
        const all = boxes(), here = all.indexOf(box), from = shiftKey && last?.isConnected ? all.indexOf(last) : here;
        for (const one of all.slice(Math.min(from, here), Math.max(from, here) + 1))
          desk.names[box.checked !== desk.all ? "add" : "delete"](one.dataset.pick);
        last = box;
        show();
      }
      if (!button) return;
      const what = button.dataset.choose;
      if (what === "all" || what === "none") {
        desk.select(bar().dataset.gallery, what === "all");
        show();
      } else act(what);
    });
    element.addEventListener("input", ({ target }) => target.closest(".chosen") && (desk.value = target.value));
    element.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.target.matches(".chosen input")) return;
      event.preventDefault();
      act("give");
    });
    watch("value", show);
    show();
  },

  // A line that is read once: shown until it was dismissed in this browser.
  once() {
    for (const line of document.querySelectorAll("[data-once]")) line.hidden = desk.dismissed(line.dataset.once);
  },

  dismissed(line, now = false) {
    try {
      if (now) localStorage.setItem(`dismissed ${line}`, "yes");
      return now || localStorage.getItem(`dismissed ${line}`) !== null;
    } catch {
      return now; // a browser that lets the page remember nothing
    }
  },
};
window.desk = desk;

document.addEventListener("click", ({ target }) => {
  for (const menu of document.querySelectorAll("details.menu[open]"))
    if (!menu.contains(target) || target.closest(".items")) menu.open = false;
  if (target.closest?.("[data-skip]")) {
    document.querySelector("#how .step-of")?.scrollIntoView({ behavior: "smooth" });
    document.querySelector("#how [name=preset]:checked")?.focus({ preventScroll: true });
  }
  const line = target.closest?.("[data-dismiss]")?.closest("[data-once]");
  if (line) line.hidden = desk.dismissed(line.dataset.once, true);
});
document.addEventListener("keydown", (event) => {
  const menu = document.querySelector("details.menu[open]");
  if (event.key !== "Escape" || !menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});
