// Opens pages in a browser and tells what they say: node browser.mjs chromium|firefox PATH, with the pages on standard
// input as one line of JSON, [{"name", "url", "script", "module"}]. What goes to a console becomes lines of JSON on
// standard output, {"page", "type", "lines"}. It ends, and the browser with it, when standard input does.
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { launch } from './launch.mjs';

const [kind, path] = process.argv.slice(2);
const browser = await launch(kind, path);

// A console message costs a millisecond on its way here: what is logged within a moment travels together.
function gatherLogs() {
  let lines = [];
  const { log } = console;
  console.log = (...values) => {
    if (lines.push(values.join(' ')) > 1) return;
    setTimeout(() => {
      log(lines.join('\n'));
      lines = [];
    }, 20);
  };
}

function serveFile(route) {
  const file = new URL(`.${new URL(route.request().url()).pathname}`, import.meta.url).pathname;
  return route.fulfill({ contentType: 'text/javascript', path: existsSync(file) ? file : `${file}.js` });
}

async function open({ name, url, script, module }) {
  const say = (type, text) => console.log(JSON.stringify({ page: name, type, lines: text.split('\n') }));
  const page = await browser.newPage();
  page.on('console', (message) => say(message.type(), message.text()));
  page.on('pageerror', (error) => say('pageerror', String(error)));
  await page.route?.('**/node_modules/**', serveFile); // Playwright's; it also keeps Chromium from asking for an icon
  // A page that the server itself sends: browsers let no page of unknown origin talk to this machine. This one is
  // quiet, and leaves the console to the script.
  await page.goto(`${url}/healthz`);
  await page.evaluate(gatherLogs);
  await page.addScriptTag({ content: script, type: module ? 'module' : '' });
}

for await (const line of createInterface({ input: process.stdin })) await Promise.all(JSON.parse(line).map(open));
await browser.close();
