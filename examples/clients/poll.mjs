// Every tick by long-polling, each once and in order: an answer comes as soon as there is something to tell.
//   node poll.mjs http://localhost:8000
//   <script type="module" src="poll.mjs">    on a page of the gateway
const url = globalThis.process?.argv[2] ?? location.href;
let position = null; // where the gateway said to go on

for (;;) {
  try {
    const address = new URL('/poll?limit=100&stamp=1', url); // stamp: each tick comes with its run
    if (position) address.searchParams.set('last_t', position);
    const response = await fetch(address);
    if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
    for (const notice of ['Tick-Gap', 'Tick-Reset']) {
      // gap: ticks are gone for good; reset: another run begins
      if (response.headers.has(notice)) console.warn(notice, response.headers.get(notice));
    }
    const answer = await response.json();
    for (const { run, t } of answer.ticks ?? []) console.log(run, t); // the tick itself: its member data
    position = answer.position ?? position;
  } catch (error) {
    console.warn(String(error));
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
