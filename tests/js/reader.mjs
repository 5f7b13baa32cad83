// Reads streams with Node's fetch and with libraries: node reader.mjs KIND (ID CODING URL)... prints each line as
// "ID|line", and at each stream's end "ID." or "ID!error". CODING is what to ask for; "-": what the client asks for by
// itself. KIND is one of the readers below; those named whole read an answer in one piece.
import { createInterface } from 'node:readline';

async function show(id, stream) {
  for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) if (line) console.log(`${id}|${line}`);
}

function showAll(id, text) {
  for (const line of text.split('\n')) if (line) console.log(`${id}|${line}`);
}

const readers = {
  async fetch(id, headers, url) {
    const answer = await fetch(url, { headers });
    let rest = '';
    for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + part).split('\n');
      rest = lines.pop();
      showAll(id, lines.join('\n'));
    }
    showAll(id, rest);
  },

  async got(id, headers, url) {
    const { got } = await import('got');
    const stream = got.stream(url, { headers, retry: { limit: 0 } });
    const failed = new Promise((_, reject) => stream.on('error', reject)); // readline passes no errors on
    await Promise.race([show(id, stream), failed]);
  },

  async 'got-whole'(id, headers, url) {
    const { got } = await import('got');
    showAll(id, await got(url, { headers, retry: { limit: 0 } }).text());
  },

  async axios(id, headers, url) {
    const { default: axios } = await import('axios');
    const { data } = await axios.get(url, { headers, responseType: 'stream' });
    const failed = new Promise((_, reject) => data.on('error', reject));
    await Promise.race([show(id, data), failed]);
  },

  async 'axios-whole'(id, headers, url) {
    const { default: axios } = await import('axios');
    showAll(id, (await axios.get(url, { headers, responseType: 'text', transformResponse: [] })).data);
  },
};

const [kind, ...given] = process.argv.slice(2);
for (let at = 0; at < given.length; at += 3) {
  const [id, coding, url] = given.slice(at, at + 3);
  readers[kind](id, coding === '-' ? {} : { 'accept-encoding': coding }, url).then(
    () => console.log(`${id}.`),
    (error) => console.log(`${id}!${error.cause ?? error}`),
  );
}
