// Every tick over WebSocket, each once and in order, whatever becomes of the connection.
//   node websocket.mjs http://localhost:8000      (npm install ws, below Node 22)
//   <script type="module" src="websocket.mjs">    on a page of the gateway
const url = globalThis.process?.argv[2].replace(/\/?$/, '/') ?? location.href; // a path in it is kept
const silence = 45_000; // ms without a word, though the gateway answers pings: the connection is dead
const WebSocket = globalThis.WebSocket ?? (await import('ws')).default;
let position = null; // RUN:T of the last tick that we have: all that is needed to go on after it

function connect() {
  const address = new URL('ws/stream', url);
  address.protocol = address.protocol.replace('http', 'ws');
  address.searchParams.set('stamp', '1'); // each tick comes with its run
  if (position) address.searchParams.set('from_t', position);
  const socket = new WebSocket(address);
  let over = false;
  let heard = Date.now();
  const watchdog = setInterval(() => {
    if (Date.now() - heard > silence) again();
    else if (socket.readyState === WebSocket.OPEN) socket.send('{"op":"ping"}');
  }, silence / 3);

  socket.onmessage = ({ data }) => {
    heard = Date.now();
    const message = JSON.parse(data);
    if ('t' in message) {
      console.log(message.run, message.t); // the tick itself: message.data
      position = `${message.run}:${message.t}`;
    } else if (!('pong' in message)) {
      console.warn(data); // gap: ticks are gone for good; reset: another run begins
      over = message.notice === 'end' && !['shutdown', 'failed'].includes(message.reason);
    }
  };
  socket.onerror = () => {}; // a close follows
  socket.onclose = again;
  function again() {
    clearInterval(watchdog);
    socket.onmessage = socket.onclose = null; // nothing more of this one, whose end may take its time
    socket.close();
    if (!over) setTimeout(connect, 1000);
  }
}

connect();
