// Gradio's server closes the stream of answers once it owes none. Where its word for that crosses a new question on the
// way, Gradio's client would close the stream by which the new answer is to come, and wait for it without end: here the
// stream goes on in another request.

const answers = {
  fetched: window.fetch.bind(window),
  joining: 0, // questions whose ids are not known yet
  owed: new Set(),
  early: new Set(), // answered before their ids were known

  async note(reply) {
    answers.joining++;
    try {
      const { event_id: id } = await (await reply).clone().json();
      if (id) answers.early.delete(id) || answers.owed.add(id);
    } catch {
      // Gradio says what went wrong.
    } finally {
      answers.joining--;
    }
  },

  async open(request) {
    const reply = await answers.fetched(request);
    if (!reply.ok) return reply;
    const messages = answers.read(request, reply);
    const body = new ReadableStream({
      async pull(controller) {
        const { done, value } = await messages.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
    });
    return new Response(body.pipeThrough(new TextEncoderStream()), reply);
  },

  async *read(request, reply) {
    const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const messages = (rest + value).split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        const { msg, event_id: id } = message.startsWith("data: ") ? JSON.parse(message.slice(6)) : {};
        if (msg === "process_completed") answers.owed.delete(id) || answers.early.add(id);
        if (msg === "close_stream" && (answers.joining || answers.owed.size)) {
          const next = await answers.fetched(request);
          if (!next.ok) throw new Error(`the stream of answers was refused: ${next.status}`);
          return yield* answers.read(request, next);
        }
        yield `${message}\n\n`;
      }
    }
  },
};

window.fetch = (asked, options) => {
  const address = String(asked.url ?? asked);
  if (address.includes("/queue/data")) return answers.open(new Request(asked, options));
  const reply = answers.fetched(asked, options);
  if (address.includes("/queue/join")) answers.note(reply);
  return reply;
};
