// Every tick by asking now and then for what is new, each once and in order.
//   node incremental.mjs http://localhost:8000
//   <script type="module" src="incremental.mjs">    on a page of the gateway
const url = globalThis.process?.argv[2].replace(/\/?$/, '/') ?? location.href; // a path in it is kept
const silence = 45_000; // ms: an answer comes at once, so that a connection without one is dead
let start = 'tail=1'; // the newest tick, and then what the gateway says

for (;;) {
  let ticks = [];
  try {
    const address = new URL(`incremental?stamp=1&${start}`, url); // stamp: each tick comes with its run
    const response = await fetch(address, { signal: AbortSignal.timeout(silence) });
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    for (const notice of ['Tick-Gap', 'Tick-Reset']) {
      // gap: ticks are gone for good; reset: another run begins
      if (response.headers.has(notice)) console.warn(notice, response.headers.get(notice));
    }
    ticks = await response.json();
    for (const { run, t } of ticks) console.log(run, t); // the tick itself: its member data
    const next = response.headers.get('Tick-Next');
    start = next ? `from_t=${next}` : ''; // none: no tick came yet, so that all are new
  } catch (error) {
    console.warn(String(error));
  }
  // While there is more, ask at once: an answer holds at most a thousand.
  if (!ticks.length) await new Promise((resolve) => setTimeout(resolve, 1000));
}
