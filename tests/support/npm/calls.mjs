// Makes calls with OpenAI's SDK: takes {"baseURL", "apiKey", "calls": [...]} on stdin and prints one outcome for each,
// {"answer": ...} or {"error": {...}}. A call is {"how", "body", "options"?, "leaveAfter"?}.
import OpenAI from "openai";

const { baseURL, apiKey, calls } = JSON.parse(await new Response(process.stdin).text());
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

const ways = {
  chat: ({ body, options }) => client.chat.completions.create(body, options),
  // The SDK puts the pieces together itself.
  assembled: ({ body, options }) => client.chat.completions.stream(body, options).finalChatCompletion(),
  embeddings: ({ body, options }) => client.embeddings.create(body, options),
  models: async () => (await client.models.list()).data,
  model: ({ body }) => client.models.retrieve(body.model),
  async stream({ body, options, leaveAfter }) {
    const chunks = [];
    for await (const chunk of await client.chat.completions.create({ ...body, stream: true }, options)) {
      chunks.push(chunk);
      if (chunks.length === leaveAfter) break; // which ends the request
    }
    return chunks;
  },
};

async function outcome(call) {
  try {
    return { answer: await ways[call.how](call) };
  } catch (error) {
    const { status, code, type, param, message } = error;
    return { error: { name: error.constructor.name, status, code, type, param, message } };
  }
}

console.log(JSON.stringify(await Promise.all(calls.map(outcome))));
