// Every tick as a line of one endless HTTP answer, each once and in order, whatever becomes of the connection.
//   node ndjson.mjs http://localhost:8000
//   <script type="module" src="ndjson.mjs">    on a page of the gateway
const url = globalThis.process?.argv[2].replace(/\/?$/, '/') ?? location.href; // a path in it is kept
const silence = 45_000; // ms: a sign of life comes every 15 s, so that a connection without any is dead
let position = null; // RUN:T of the last tick that we have: all that is needed to go on after it
let over = false;

function take(line) {
  const message = JSON.parse(line);
  if ('t' in message) {
    console.log(message.run, message.t); // the tick itself: message.data
    position = `${message.run}:${message.t}`;
  } else {
    console.warn(line); // gap: ticks are gone for good; reset: another run begins
    over = message.notice === 'end' && !['shutdown', 'failed'].includes(message.reason);
  }
}

while (!over) {
  let heard = Date.now();
  const dead = new AbortController();
  const watchdog = setInterval(() => {
    if (Date.now() - heard > silence) dead.abort(new Error('no sign of life'));
  }, silence / 10);
  try {
    const address = new URL('ndjson?stamp=1', url); // stamp: each tick comes with its run
    if (position) address.searchParams.set('from_t', position);
    const response = await fetch(address, { signal: dead.signal });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = ''; // what came of the next line: where the connection breaks, it is dropped and asked for again
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      heard = Date.now();
      const lines = (rest + part.value).split('\n');
      rest = lines.pop();
      lines.filter((line) => line.trim()).forEach(take); // a blank line is a sign of life
    }
  } catch (error) {
    console.warn(String(error));
  }
  clearInterval(watchdog);
  if (!over) await new Promise((resolve) => setTimeout(resolve, 1000));
}
