// Opens pages in a browser and tells what they say: node browser.mjs chromium|firefox PATH, with the pages on standard
// input as one line of JSON, [{"name", "url", "script", "module"}]. What goes to a console becomes lines of JSON on
// standard output, {"page", "type", "lines"}. It ends, and the browser with it, when standard input does.
import { existsSync } from 'node:fs';
import { createInterface } from 'node:readline';

const browsers = {
  async chromium(executablePath) {
    const { chromium } = await import('playwright-core');
    const quiet = ['--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'];
    const browser = await chromium.launch({
      executablePath,
      chromiumSandbox: false, // it refuses to start as root
      args: [...quiet, '--disable-component-update', '--disable-sync'],
    });
    const context = await browser.newContext({ bypassCSP: true }); // the scripts are the test's, not the page's
    const newPage = async () => {
      const page = await context.newPage();
      await page.route('**/node_modules/**', (route) => {
        const path = new URL(`.${new URL(route.request().url()).pathname}`, import.meta.url).pathname;
        return route.fulfill({ contentType: 'text/javascript', path: existsSync(path) ? path : `${path}.js` });
      });
      return page;
    };
    return { newPage, close: () => browser.close() };
  },

  async firefox(executablePath) {
    const { default: puppeteer } = await import('puppeteer-core');
    return puppeteer.launch({
      browser: 'firefox',
      executablePath,
      extraPrefsFirefox: {
        'devtools.jsonview.enabled': false, // its viewer of JSON is a page of its own, which talks to nobody
        // Of several pages, all but one are in the background.
        'dom.min_background_timeout_value': 4,
        'dom.min_background_timeout_value_without_budget_throttling': 4,
        'dom.timeout.enable_budget_timer_throttling': false,
      },
    });
  },
};

const [kind, path] = process.argv.slice(2);
const browser = await browsers[kind](path);

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

async function open({ name, url, script, module }) {
  const say = (type, text) => console.log(JSON.stringify({ page: name, type, lines: text.split('\n') }));
  const page = await browser.newPage();
  page.on('console', (message) => say(message.type(), message.text()));
  page.on('pageerror', (error) => say('pageerror', String(error)));
  // A page that the server itself sends: browsers let no page of unknown origin talk to this machine. This one is
  // quiet, and leaves the console to the script.
  await page.goto(`${url}/healthz`);
  await page.evaluate(gatherLogs);
  await page.addScriptTag({ content: script, type: module ? 'module' : '' });
}

for await (const line of createInterface({ input: process.stdin })) await Promise.all(JSON.parse(line).map(open));
await browser.close();
