// Readers of streams, the same in Node and in browsers. Each hands every payload to show(), and comes back after each
// end, asking for what follows its last tick. A WebSocket sends what a tick has as `command`.

const after = (run, payload) => (payload ? `?from_t=${run}:${JSON.parse(payload).t}` : '');

async function lines(url, show) {
  const reader = (await fetch(url)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const found = (rest + part.value).split('\n');
    rest = found.pop();
    found.filter(Boolean).forEach(show);
  }
}

export async function ndjson(url, run, show) {
  let newest = '';
  for (;;) {
    const keep = (line) => show((newest = line));
    await lines(`${url}/ndjson${after(run, newest)}`, keep).catch((error) => console.warn(String(error)));
  }
}

export function sse(open, show) {
  open('/sse').onmessage = (event) => show(event.data); // it comes back by itself
}

export function websocket(open, run, show) {
  let newest = '';
  (function connect() {
    const socket = open(`/ws/stream${after(run, newest)}`);
    socket.onmessage = ({ data }) => {
      const { t, command } = JSON.parse(data);
      if (t !== undefined) newest = data;
      show(data);
      if (command) socket.send(JSON.stringify(command));
    };
    socket.onerror = (event) => console.warn(event.message ?? 'a WebSocket failed');
    socket.onclose = connect;
  })();
}

export async function poll(url, show) {
  let query = '?tail=1';
  for (;;) {
    try {
      const text = await (await fetch(`${url}/poll${query}&limit=100`)).text();
      query = `?last_t=${JSON.parse(text).position}`;
      const ticks = text.slice(text.indexOf('[') + 1, text.lastIndexOf('],"t":')); // byte for byte, unlike parsed ones
      if (ticks) ticks.split(/(?<=\}),(?=\{"t":)/).forEach(show);
    } catch (error) {
      console.warn(String(error));
    }
  }
}
