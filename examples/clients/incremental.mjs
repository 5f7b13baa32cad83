// Every tick by asking now and then for what is new, each once and in order.
//   node incremental.mjs http://localhost:8000
//   <script type="module" src="incremental.mjs">    on a page of the gateway
const url = globalThis.process?.argv[2] ?? location.href;
let position = null; // where the gateway said to go on

for (;;) {
  let ticks = [];
  try {
    const address = new URL('/incremental?stamp=1', url); // stamp: each tick comes with its run
    if (position) address.searchParams.set('from_t', position);
    const response = await fetch(address);
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    for (const notice of ['Tick-Gap', 'Tick-Reset']) {
      // gap: ticks are gone for good; reset: another run begins
      if (response.headers.has(notice)) console.warn(notice, response.headers.get(notice));
    }
    ticks = await response.json();
    for (const { run, t } of ticks) console.log(run, t); // the tick itself: its member data
    position = response.headers.get('Tick-Next') ?? position;
  } catch (error) {
    console.warn(String(error));
  }
  // While there is more, ask at once: an answer holds at most a thousand.
  if (!ticks.length) await new Promise((resolve) => setTimeout(resolve, 1000));
}
