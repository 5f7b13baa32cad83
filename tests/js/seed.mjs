// Runs a snippet as it stands, with the globals that a browser has: node seed.mjs FILE [CALL]
// CALL is a statement to add: what a reader types after pasting a snippet that only defines a function.
import { readFileSync } from 'node:fs';
import { runInThisContext } from 'node:vm';
import { EventSource } from 'eventsource';
import { WebSocket } from 'ws';

Object.assign(globalThis, { EventSource, WebSocket });
const [file, call = ''] = process.argv.slice(2);
runInThisContext(`${readFileSync(file, 'utf8')}\n${call}`, { filename: file });
