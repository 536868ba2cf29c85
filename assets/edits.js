// What a person types or chooses reaches the server in a request of its own, which outlives the page: an event of
// Gradio's is lost with the page. Those without an answer are remembered in this tab of the browser, and the next page
// in it sends them again before it asks what there is. By visit and number the server knows what comes late or twice.

const edits = {
  visit: Math.random().toString(36).slice(2), // of this page, until it is loaded anew
  made: 0,
  going: new Set(),
  AGAIN_MS: 1000,

  // Resolves to {edition}, by which the server has it, or to {mistake}, why it has not.
  keep(edit) {
    const body = JSON.stringify({ ...edit, visit: edits.visit, number: ++edits.made });
    edits.unanswered([...edits.unanswered(), body]);
    return edits.send(body);
  },

  // Once there is an answer to each.
  async settled() {
    while (edits.going.size) await Promise.all(edits.going);
  },

  unanswered(bodies) {
    const key = `edits ${location.pathname}`;
    try {
      if (bodies) sessionStorage.setItem(key, JSON.stringify(bodies));
      return JSON.parse(sessionStorage.getItem(key)) ?? [];
    } catch {
      return []; // a browser that lets the page remember nothing
    }
  },

  send(body) {
    const answer = edits.ask(body).finally(() => edits.going.delete(answer));
    edits.going.add(answer);
    return answer;
  },

  async ask(body) {
    const request = { method: "POST", headers: { "Content-Type": "application/json" }, body };
    let line;
    for (let keepalive = true; ; keepalive = false) {
      try {
        const reply = await fetch("edit", { ...request, keepalive });
        if (![502, 503, 504].includes(reply.status)) {
          line?.remove();
          edits.unanswered(edits.unanswered().filter((other) => other !== body));
          return await reply.json().catch(() => ({ mistake: `what was typed was refused (${reply.status}): reload the page` }));
        }
      } catch {
        // No connection, or more than a browser sends for a page that goes.
      }
      if (keepalive) continue;
      line ??= window.gcr?.line("What was typed is not kept yet, nothing answers: trying it again…");
      await new Promise((go) => setTimeout(go, edits.AGAIN_MS));
    }
  },
};

// What was wrong with edits that the page before this one had no answer to, in words.
edits.before = Promise.all(edits.unanswered().map(edits.send)).then((answers) =>
  answers.flatMap(({ mistake }) => mistake ?? []).join(" "),
);
