// Every tick over Server-Sent Events, each once and in order. EventSource comes back by itself, and says what it has.
//   node sse.mjs http://localhost:8000      (npm install eventsource)
//   <script type="module" src="sse.mjs">    on a page of the gateway
const url = globalThis.process?.argv[2] ?? location.href;
const EventSource = globalThis.EventSource ?? (await import('eventsource')).EventSource;
let position = null; // RUN:T of the last tick that we have

function connect() {
  const address = new URL('/sse', url);
  if (position) address.searchParams.set('from_t', position);
  const source = new EventSource(address);

  source.onmessage = (event) => {
    position = event.lastEventId;
    const [run, t] = position.split(':');
    console.log(run, t); // the tick itself: JSON.parse(event.data)
  };
  for (const notice of ['gap', 'reset', 'overloaded']) {
    // gap: ticks are gone for good; reset: another run begins
    source.addEventListener(notice, (event) => console.warn(event.data));
  }
  source.addEventListener('end', (event) => {
    console.warn(event.data);
    if (event.lastEventId === 'end') source.close(); // else the gateway restarts: come back
  });
  source.onerror = () => {
    // It gives up on answers that are not the gateway's, such as a proxy's 502.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  };
}

connect();
