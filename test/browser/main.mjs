// Console and portal in a browser, against the API of the same server.
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AxeBuilder } from "@axe-core/playwright";
import { Browser, check, Demo, equal, patience, shown, sum, summary, value } from "./harness.mjs";

const wholeMax = 600_000; // milliseconds for all of it, on a machine that does much else
const wide = { width: 1280, height: 800 };
const narrow = { width: 360, height: 740 };

// figures compares what the home page shows with the API, once nothing runs any more.
async function homeFigures(demo, page) {
  const status = await demo.get("/v1/status");
  const denied = status.denied_rate + status.denied_quota + status.denied_spend + status.denied_key + status.denied_subscription +
    status.denied_concurrency + status.denied_credits + status.denied_entitlement + status.denied_abnormal;
  await shown(page, "admitted-total", String(status.admitted));
  await shown(page, "denied-total", String(denied));
  const books = await demo.get("/v1/books");
  equal(books.difference, "0", "difference of the books");
  await shown(page, "books-difference", books.difference);
  const exact = [];
  for (const c of (await demo.get("/v1/customers")).items) {
    const lines = (await demo.get(`/v1/customers/${c.id}/preview`)).lines;
    exact.push(...lines.filter((l) => l.kind === "usage").map((l) => l.exact?.amount ?? l.exact));
  }
  await page.waitForFunction((w) => document.querySelector('[data-test="accrued"] [data-currency="USD"]')?.dataset.value === w, sum(exact));
}

// customerFigures does the same for the page of a customer, in console or portal.
async function customerFigures(demo, page, customer) {
  const usage = await demo.get(`/v1/usage?customer=${customer}&meter=api_calls`);
  await shown(page, "usage-value", usage.value);
  for (const l of (await demo.get(`/v1/customers/${customer}/limits`)).items) {
    if (l.kind !== "token_bucket" && l.kind !== "concurrency" && !l.template) await shown(page, `limit-${l.limit}-consumed`, l.consumed);
  }
  if (customer === "bolt") return;
  const preview = await demo.get(`/v1/customers/${customer}/preview`);
  await shown(page, "bill-total", preview.total.amount);
}

async function signIn(demo, page) {
  await page.goto(`${demo.api}/customers/acme`);
  equal(new URL(page.url()).pathname, "/login", "without a session one lands at");
  await page.getByLabel("Operator token").fill("tally_op_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("alert").waitFor();
  await page.getByLabel("Operator token").fill(demo.token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(`${demo.api}/customers/acme`);
  await page.goto(`${demo.api}/`);
}

// live runs a burst that is longer than the pages need to notice, and stops it when they did.
async function live(demo, home, portal) {
  const before = [await value(home, "admitted-total"), await value(portal, "usage-value")];
  const burst = demo.command("burst", "demo_pro", "1000000");
  burst.done.catch(() => {}); // it is awaited below
  const more = (page, name, old) =>
    page.waitForFunction(([n, o]) => Number(document.querySelector(`[data-test="${n}"]`)?.dataset.value) > Number(o), [name, old]);
  try {
    await Promise.all([more(home, "admitted-total", before[0]), more(portal, "usage-value", before[1])]);
    await home.locator('[data-test="admitted-rate"]', { hasText: /[1-9]/ }).waitFor();
    equal(burst.child.exitCode, null, "while the burst runs, its exit code is");
  } finally {
    burst.child.kill("SIGTERM");
    await burst.done;
  }
}

// look checks one page in both schemes and both widths, and keeps a picture of each.
async function look(page, name, url, shots) {
  await page.setViewportSize(wide);
  await (typeof url === "function" ? url() : page.goto(url));
  await page.locator("main").waitFor();
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.screenshot({ path: join(shots, `${name}-1280-${scheme}.png`), fullPage: true });
    await check(`${name}: accessible in ${scheme}`, async () => {
      const axe = new AxeBuilder({ page });
      if (scheme === "dark") axe.withRules(["color-contrast"]); // all else is the same document
      const { violations } = await axe.analyze();
      const bad = violations.filter((v) => v.impact === "serious" || v.impact === "critical");
      equal(bad.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`).join("\n"), "", "violations");
    });
  }
  await page.setViewportSize(narrow);
  await check(`${name}: fits 360 px`, async () => {
    const beyond = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    equal(beyond, 0, "pixels beyond the edge");
  });
  for (const scheme of ["dark", "light"]) {
    await page.emulateMedia({ colorScheme: scheme });
    await page.screenshot({ path: join(shots, `${name}-360-${scheme}.png`), fullPage: true });
  }
}

async function behaviour(demo, browser, home) {
  await check("what a reader opened stays open while the page updates", async () => {
    const details = home.locator("#live details").first();
    await details.locator("summary").click();
    const clock = home.locator(".clock time");
    const then = await clock.getAttribute("datetime");
    await home.waitForFunction((t) => document.querySelector(".clock time").getAttribute("datetime") > t, then);
    await home.waitForFunction((t) => document.querySelector(".clock time").getAttribute("datetime") !== t, await clock.getAttribute("datetime"));
    equal(await details.evaluate((d) => d.open), true, "open");
  });
  await check("a keyboard reaches the content and sees where it is", async () => {
    const page = await home.context().newPage();
    await page.goto(`${demo.api}/decisions`);
    await page.keyboard.press("Tab");
    const skip = page.locator(".skip");
    equal(await skip.evaluate((e) => e === document.activeElement && getComputedStyle(e).outlineStyle !== "none" && e.getBoundingClientRect().left >= 0), true, "skip link");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    equal(await page.evaluate(() => document.activeElement.id), "id", "behind the skip link comes the field");
    await page.close();
  });
  await check("pages make sense without scripts", async () => {
    const page = await browser.page({ javaScriptEnabled: false });
    await page.goto(await demo.link("acme"));
    equal(new URL(page.url()).search, "", "the address after opening a link has the query");
    const usage = await demo.get("/v1/usage?customer=acme&meter=api_calls");
    equal(await value(page, "usage-value"), usage.value, "usage");
    await page.context().close();
  });
  await check("a forged link opens nothing and says so", async () => {
    const page = await browser.page();
    await page.goto(`${(await demo.link("acme")).slice(0, -2)}xx`);
    await page.getByRole("heading", { name: "This link does not open the portal" }).waitFor();
    await page.context().close();
  });
}

// traced goes from the newest invoice with requests to a decision and back, by clicking.
async function traced(demo, page) {
  await demo.run("clock", "advance", "--to", "period-end");
  const invoices = (await demo.get("/v1/invoices?customer=acme")).items;
  await page.setViewportSize(wide);
  await page.goto(`${demo.api}/invoices/${invoices[0].id}`);
  equal(await value(page, "bill-total"), invoices[0].total.amount, "total of the invoice");
  await page.locator(".bill tbody a").first().click();
  await page.getByRole("heading", { name: "Events" }).waitFor();
  const decision = page.locator('a[href^="/decisions/"]').first();
  for (let next = page.getByRole("link", { name: "Next page" }); (await decision.count()) === 0; ) await next.click();
  await decision.click();
  await page.locator('[data-test="outcome"][data-value="allowed"]').waitFor();
  await page.locator('a[href*="/lines/"]').click();
  await page.getByRole("heading", { name: "Windows" }).waitFor();
}

// unmatched reports events that nobody counts, mends one group and voids one event, by clicking.
async function unmatched(demo, page) {
  const report = (id, type, subject) =>
    demo.get("/v1/events", {
      method: "POST",
      headers: { "Content-Type": "application/cloudevents+json" },
      body: JSON.stringify({ specversion: "1.0", source: "browser", id, type, subject }),
    });
  const used = async () => Number((await demo.get("/v1/usage?customer=acme&meter=api_calls")).value);
  const before = await used();
  await page.goto(`${demo.api}/events`);
  await report("b-1", "requst", "acme");
  await report("b-2", "requst", "acme");
  await report("b-3", "request", "acmee");
  await report("b-4", "request", "acme");
  await shown(page, "unmatched-total", "3");
  await page.locator('tr[data-event="b-4"]').waitFor();
  await page.getByRole("link", { name: "3 events" }).click();
  await page.getByRole("button", { name: "Alias and replay" }).first().press("Enter");
  await page.getByRole("status").getByText("2 events counted anew").waitFor();
  equal((await used()) - before, 3, "usage after the replay grew by");
  await page.goto(`${demo.api}/events?type=request&customer=acme`);
  await page.getByRole("link", { name: "b-4" }).click();
  await page.getByRole("heading", { name: "Void" }).locator("..").getByLabel("Reason").fill("sent twice");
  await page.getByRole("button", { name: "Void" }).click();
  await page.getByText("operator: sent twice").waitFor();
  equal((await used()) - before, 2, "usage after the void grew by");
}

// allowances raises a limit, grants credits and takes the override back, by clicking.
async function allowances(demo, page) {
  const quota = async () => (await demo.get("/v1/customers/acme/limits")).items.find((l) => l.limit === "monthly").quota;
  await page.goto(`${demo.api}/customers/acme`);
  await page.getByText("Set another number for a limit").click();
  const form = page.locator('form[action$="/overrides"]');
  await form.getByLabel("Limit").selectOption("monthly");
  await form.getByLabel("Value").fill("much");
  await form.getByLabel("Reason").fill("launch day");
  await form.getByRole("button").click();
  await page.getByRole("alert").getByText("much").waitFor();
  await form.getByLabel("Value").fill("25000");
  await form.getByLabel("Holds for").selectOption("24h");
  await form.getByRole("button").press("Enter");
  await page.locator("tr[data-override]", { hasText: "launch day" }).getByText("active").waitFor();
  equal(await quota(), "25000", "the limit while the override holds");
  await page.getByText("Grant credits").click();
  const grant = page.locator('form[action$="/grants"]');
  await grant.getByLabel("Amount").fill("5000");
  await grant.getByLabel("Reason").fill("prepaid");
  await grant.getByRole("button").click();
  await page.locator("tr[data-grant]", { hasText: "operator: prepaid" }).waitFor();
  await page.getByRole("button", { name: "End the override of monthly" }).click();
  await page.locator("tr[data-override]", { hasText: "launch day" }).getByText("ended").waitFor();
  equal(await quota(), "20000", "the limit without the override");
}

// preview asks what the other plan would cost, by clicking; nothing is changed.
async function preview(demo, page) {
  await page.goto(`${demo.api}/customers/acme`);
  await page.getByText("Change the plan", { exact: true }).click();
  const form = page.locator('form[data-change="plan"]');
  await form.getByLabel("Plan").selectOption("free");
  await form.getByLabel("Reason").fill("asked for less");
  await form.getByRole("button", { name: "Preview" }).press("Enter");
  await page.getByRole("heading", { name: "What it costs" }).waitFor();
}

// billing previews a change and makes another one, records money and pays an invoice, by clicking.
async function billing(demo, page) {
  const subscription = (await demo.get("/v1/subscriptions?customer=acme")).items[0].id;
  const { money } = await demo.get(`/v1/subscriptions/${subscription}/changes?dry_run=true`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ kind: "plan", plan: "free" }),
  });
  await preview(demo, page);
  equal(await value(page, "change-before"), money.before.amount, "total without the change");
  equal(await value(page, "change-after"), money.after.amount, "total with the change");
  await page.getByRole("link", { name: "Leave it as it is" }).click();
  await page.getByText("Cancel", { exact: true }).click();
  const form = page.locator('form[data-change="cancel"]');
  await form.getByLabel("From").selectOption("period_end");
  await form.getByRole("button").click();
  await page.getByRole("button", { name: "Make the change" }).click();
  await page.getByText("Take the cancellation back").click();
  await page.locator('form[data-change="revive"]').getByRole("button").click();
  await page.getByRole("button", { name: "Make the change" }).click();
  await page.getByText("Cancel", { exact: true }).waitFor();

  await page.getByText("Record a deposit").click();
  const deposit = page.locator('form[action$="/deposits"]');
  await deposit.getByLabel("Amount").fill("12.345");
  await deposit.getByRole("button").click();
  await page.getByRole("alert").getByText("at most 2 decimals").waitFor();
  await deposit.getByLabel("Amount").fill("12.34");
  await deposit.getByRole("button").click();
  await shown(page, "balance", "12.34");
  const { balance } = await demo.get("/v1/customers/acme/balance");
  equal(balance.amount, "12.34", "balance");

  const open = (await demo.get("/v1/invoices?customer=acme")).items.filter((i) => i.standing.remaining.amount !== "0.00");
  await page.goto(`${demo.api}/invoices/${open[0].id}`);
  await page.getByText("Write a credit note").click();
  const credit = page.locator('form[action$="/credit-notes"]');
  await credit.getByLabel("Of", { exact: true }).selectOption({ index: 1 });
  await credit.getByLabel("Amount").fill("1.00");
  await credit.getByLabel("Reason").fill("an outage");
  await credit.getByRole("button").click();
  await page.locator("tr[data-note]", { hasText: "an outage" }).waitFor();
  await page.getByText("Record a payment").click();
  await page.locator('form[action$="/payments"]').getByRole("button").click();
  await shown(page, "remaining", "0.00");
  equal((await demo.get(`/v1/invoices/${open[0].id}`)).status, "paid", "status of the invoice");
}

async function all(demo, browser) {
  const shots = await mkdtemp(join(tmpdir(), "tally-shots-"));
  console.log(`screenshots in ${shots}`);
  const home = await browser.page();
  await check("signing in needs the token and leads where one wanted to go", () => signIn(demo, home));
  const portal = await browser.page();
  await portal.goto(await demo.link("acme"));
  await check("home shows what /v1 says", () => homeFigures(demo, home));
  await check("the portal shows what /v1 says", () => customerFigures(demo, portal, "acme"));
  await check("home and portal change while a burst runs", () => live(demo, home, portal));
  const free = await demo.run("burst", "demo_free", "101");
  await check("after the bursts home shows what /v1 says", () => homeFigures(demo, home));
  await check("after the bursts the portal shows what /v1 says", () => customerFigures(demo, portal, "acme"));
  await check("a customer at the limit reads so", async () => {
    const page = await browser.page();
    await page.goto(await demo.link("bolt"));
    await customerFigures(demo, page, "bolt");
    equal(await value(page, "limit-daily-consumed"), "100", "consumed");
    equal((await page.locator("#status strong").textContent()).trim(), "Stopped:", "status");
    equal(await page.locator('tr[data-outcome="denied"]').count(), 1, "refused requests");
    await page.context().close();
  });
  await behaviour(demo, browser, home);

  const invoices = (await demo.get("/v1/invoices?customer=acme")).items;
  const operator = await home.context().newPage();
  await check("unmatched events are seen, mended and replayed; an event is voided", () => unmatched(demo, operator));
  await check("an override and credits are set on the customer's page", () => allowances(demo, operator));
  await check("billing: a change is previewed, a cancellation taken back, money recorded, an invoice credited and paid", () => billing(demo, operator));
  await demo.run("webhooks", "create", "http://127.0.0.1:9/hook");
  const pages = {
    home: "/", decisions: "/decisions", denied: `/decisions/${encodeURIComponent(free.last_denial.decision_id)}`,
    customers: "/customers", customer: "/customers/acme", "customer-stopped": "/customers/bolt",
    events: "/events", event: "/events/show?source=browser&id=b-4", unmatched: "/events/unmatched", notices: "/notices",
    invoices: "/invoices", invoice: `/invoices/${invoices[0].id}`, line: `/invoices/${invoices[0].id}/lines/1`,
  };
  const visitor = await browser.page();
  await Promise.all([
    (async () => {
      for (const [name, path] of Object.entries(pages)) await look(operator, name, demo.api + path, shots);
      await look(operator, "change", () => preview(demo, operator), shots);
    })(),
    (async () => {
      await look(visitor, "login", `${demo.api}/login`, shots);
      await look(visitor, "portal", await demo.link("acme"), shots);
      await look(visitor, "portal-stopped", await demo.link("bolt"), shots);
      await look(visitor, "portal-invalid", `${demo.api}/portal/open?token=x`, shots);
    })(),
  ]);
  await check("the customer's page shows what /v1 says", async () => {
    await operator.goto(`${demo.api}/customers/acme`);
    await customerFigures(demo, operator, "acme");
  });

  await check("an invoice line leads to a decision and back", () => traced(demo, operator));
  await check("no violation of the policy, no error of a script", () => equal(browser.faults.join("\n"), "", "faults"));
  await check("a page says when the server is gone", async () => {
    await demo.stop();
    await home.locator("#stale").waitFor({ state: "visible", timeout: patience });
  });
}

const began = performance.now();
let demo;
let browser;
let code = 1;
const deadline = setTimeout(() => {
  console.error(`not done after ${wholeMax / 1000} s`);
  process.exit(1);
}, wholeMax);
try {
  demo = await Demo.start();
  browser = await Browser.start(process.env.TALLY_TEST_CHROMIUM || "/usr/bin/chromium");
  await all(demo, browser);
  console.log(`${((performance.now() - began) / 1000).toFixed(1)} s`);
  code = summary();
} catch (e) {
  console.error(e);
  if (demo) console.error(demo.log);
  summary();
} finally {
  clearTimeout(deadline);
  await browser?.stop();
  await demo?.stop();
}
process.exitCode = code;
