// Clients that others wrote, each in its plainest use: node peers.mjs NAME URL [RUN] prints every payload on a line.
// RUN is what those read that come back by themselves.
import { EventSource } from 'eventsource';
import { fetchEventSource } from '@microsoft/fetch-event-source';
import { WebSocket } from 'ws';
import * as streams from './streams.mjs';

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

  fetch(url, run) {
    return streams.ndjson(url, run, console.log);
  },

  'ws-deflate'(url, run) {
    streams.websocket((path) => new WebSocket(`${url.replace('http', 'ws')}${path}`), run, console.log);
  },

  'ws-no-takeover'(url, run) {
    const options = { perMessageDeflate: { serverNoContextTakeover: true } };
    streams.websocket((path) => new WebSocket(`${url.replace('http', 'ws')}${path}`, options), run, console.log);
  },
};

const [name, url, run] = process.argv.slice(2);
await peers[name](url, run);
