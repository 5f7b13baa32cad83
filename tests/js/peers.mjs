// Clients that others wrote, each in its plainest use: node peers.mjs NAME URL prints every payload on a line.
import { EventSource } from 'eventsource';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { WebSocket } from 'ws';

const peers = {
  ws(url) {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws/stream`);
    socket.on('message', (data, binary) => console.log(binary ? 'a binary message' : data.toString()));
  },

  eventsource(url) {
    const source = new EventSource(`${url}/sse`);
    source.onmessage = (event) => console.log(event.data);
  },

  'fetch-event-source'(url) {
    // It is made for browsers: these are all the parts of one that it uses.
    globalThis.window = globalThis;
    globalThis.document = { addEventListener() {}, removeEventListener() {}, hidden: false };
    return fetchEventSource(`${url}/sse`, {
      openWhenHidden: true,
      onmessage: (message) => console.log(message.data),
      onclose() {
        throw new Error('closed'); // as its manual has it: only what is thrown here makes it come back
      },
    });
  },
};

const [name, url] = process.argv.slice(2);
await peers[name](url);
