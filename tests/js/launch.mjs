// Starts Chromium with Playwright, or Firefox with Puppeteer (Playwright drives none but its own): what is done with them
// differs only here.

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
    return {
      newPage: () => context.newPage(),
      first: (page, script) => page.addInitScript(script),
      until: (page, expression) => page.waitForFunction(expression, null, { timeout: 0, polling: 50 }),
      close: () => browser.close(),
    };
  },

  async firefox(executablePath) {
    const { default: puppeteer } = await import('puppeteer-core');
    const browser = await puppeteer.launch({
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
    return {
      newPage: () => browser.newPage(),
      first: (page, script) => page.evaluateOnNewDocument(script),
      until: (page, expression) => page.waitForFunction(expression, { timeout: 0, polling: 50 }),
      close: () => browser.close(),
    };
  },
};

export const launch = (kind, executablePath) => browsers[kind](executablePath);
