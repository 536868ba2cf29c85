// Gradio's server closes the stream of answers once it owes none. Where its word for that crosses a new question on the
// way, Gradio's client would close the stream by which the new answer is to come, and wait for it without end: here the
// stream goes on in another request.

const answers = {
  fetched: window.fetch,
  asking: new Set(),
  owed: new Set(),
  early: new Set(), // answers that came before the ids of their questions

  ask(question) {
    const known = question
      .then((reply) => reply.clone().json())
      .then(({ event_id: id }) => id && (answers.early.delete(id) || answers.owed.add(id)))
      .catch(() => {})
      .finally(() => answers.asking.delete(known));
    answers.asking.add(known);
    return question;
  },

  // The messages of a stream, and of those that it goes on in.
  async *read(request, stream) {
    while (stream) {
      const reader = stream.body.getReader(), decoder = new TextDecoder();
      let next = null, rest = "";
      while (!next) {
        const { done, value } = await reader.read();
        if (done) break;
        const messages = (rest + decoder.decode(value, { stream: true })).split("\n\n");
        rest = messages.pop();
        for (const message of messages) {
          const { msg, event_id: id } = JSON.parse(message.slice("data: ".length));
          if (msg === "process_completed") answers.owed.delete(id) || answers.early.add(id);
          if (msg === "close_stream") next = await answers.next(request);
          if (!next) yield `${message}\n\n`;
        }
      }
      stream = next;
    }
  },

  async next(request) {
    await Promise.all(answers.asking);
    const stream = answers.owed.size && (await answers.fetched.call(window, request.clone()));
    return stream.ok ? stream : null;
  },

  async stream(request) {
    const reply = await answers.fetched.call(window, request.clone());
    if (!reply.ok) return reply;
    const messages = answers.read(request, reply), encoder = new TextEncoder();
    const body = new ReadableStream({
      async pull(controller) {
        const { done, value } = await messages.next();
        if (done) controller.close();
        else controller.enqueue(encoder.encode(value));
      },
    });
    return new Response(body, reply);
  },
};

window.fetch = (asked, options) => {
  const address = String(asked.url ?? asked);
  if (address.includes("/queue/data")) return answers.stream(new Request(asked, options));
  const reply = answers.fetched.call(window, asked, options);
  return address.includes("/queue/join") ? answers.ask(reply) : reply;
};
