// Every tick by long-polling, each once and in order: an answer comes as soon as there is something to tell.
//   node poll.mjs http://localhost:8000
//   <script type="module" src="poll.mjs">    on a page of the gateway
const url = globalThis.process?.argv[2].replace(/\/?$/, '/') ?? location.href; // a path in it is kept
const silence = 45_000; // ms: an answer comes within 30 s, so that a connection without one is dead
let start = 'tail=1'; // the newest tick, and then what the gateway says

for (;;) {
  try {
    const address = new URL(`poll?limit=100&stamp=1&${start}`, url); // stamp: each tick comes with its run
    const response = await fetch(address, { signal: AbortSignal.timeout(silence) });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    for (const notice of ['Tick-Gap', 'Tick-Reset']) {
      // gap: ticks are gone for good; reset: another run begins
      if (response.headers.has(notice)) console.warn(notice, response.headers.get(notice));
    }
    const answer = await response.json();
    for (const { run, t } of answer.ticks ?? []) console.log(run, t); // the tick itself: its member data
    start = answer.position ? `last_t=${answer.position}` : ''; // none: no tick came yet, so that all are new
  } catch (error) {
    console.warn(String(error));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
