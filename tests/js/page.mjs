// Opens one page in a browser and answers for it: node page.mjs chromium|firefox PATH URL [SCRIPT], SCRIPT being run
// before the page's own. Each line of standard input is a line of JSON, {"id", "expression", "wait"}: the answer is the
// expression's value in the page or, with "wait", its first value that is true. What goes to the console comes as
// {"console", "text"}. It ends, and the browser with it, when standard input does.
import { createInterface } from 'node:readline';
import { launch } from './launch.mjs';

const [kind, path, url, script] = process.argv.slice(2);
const browser = await launch(kind, path);
const page = await browser.newPage();
const say = (message) => console.log(JSON.stringify(message));
page.on('console', (message) => say({ console: message.type(), text: message.text() }));
page.on('pageerror', (error) => say({ console: 'pageerror', text: String(error) }));
if (script) await browser.first(page, script);
await page.goto(url);

async function answer({ id, expression, wait }) {
  try {
    const value = wait
      ? await (await browser.until(page, expression)).jsonValue()
      : await page.evaluate(expression);
    say({ id, value });
  } catch (error) {
    say({ id, error: String(error) });
  }
}

for await (const line of createInterface({ input: process.stdin })) answer(JSON.parse(line));
await browser.close();
