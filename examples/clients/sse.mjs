// Every tick over Server-Sent Events, each once and in order. EventSource comes back by itself, and says what it has.
//   node sse.mjs http://localhost:8000      (npm install eventsource)
//   <script type="module" src="sse.mjs">    on a page of the gateway
const url = globalThis.process?.argv[2].replace(/\/?$/, '/') ?? location.href; // a path in it is kept
const silence = 45_000; // ms; EventSource hides signs of life, so that a stream without ticks is opened anew, too
const EventSource = globalThis.EventSource ?? (await import('eventsource')).EventSource;
let position = null; // RUN:T of the last tick that we have

function connect() {
  const address = new URL('sse', url);
  if (position) address.searchParams.set('from_t', position);
  const source = new EventSource(address);
  let heard = Date.now();
  const watchdog = setInterval(() => {
    if (Date.now() - heard < silence) return;
    end();
    connect();
  }, silence / 10);
  function end() {
    clearInterval(watchdog);
    source.close();
  }

  source.onmessage = (event) => {
    heard = Date.now();
    position = event.lastEventId;
    const [run, t] = position.split(':');
    console.log(run, t); // the tick itself: JSON.parse(event.data)
  };
  // gap: ticks are gone for good; reset: another run begins
  for (const name of ['gap', 'reset', 'overloaded']) source.addEventListener(name, ({ data }) => console.warn(data));
  source.addEventListener('end', (event) => {
    console.warn(event.data);
    if (event.lastEventId === 'end') end(); // else the gateway restarts: it comes back
  });
  source.onerror = () => {
    heard = Date.now(); // it comes back by itself
    if (source.readyState !== EventSource.CLOSED) return;
    end(); // it gives up on answers that are not the gateway's, such as a proxy's 502
    setTimeout(connect, 1000);
  };
}

connect();
