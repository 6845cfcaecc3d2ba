// What the test stands on: a demo server of its own, the browser, and a count of checks.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const binary = fileURLToPath(new URL("../../bin/tally", import.meta.url));
export const patience = 15_000; // milliseconds that a condition may take to come true

// What must not outlive this process, however it ends.
const children = new Set();
const folders = new Set();
process.on("exit", () => {
  for (const child of children) child.kill("SIGKILL");
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

async function folder(name) {
  const path = await mkdtemp(join(tmpdir(), name));
  folders.add(path);
  return path;
}

function start(args, env) {
  const child = spawn(binary, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  child.on("exit", () => children.delete(child));
  return child;
}

let passed = 0;
let failed = 0;

// check runs one named check; a failure is counted and does not stop the others.
export async function check(name, body) {
  try {
    await body();
    passed++;
    console.log(`ok    ${name}`);
  } catch (e) {
    failed++;
    console.log(`FAIL  ${name}\n      ${String(e?.message ?? e).replaceAll("\n", "\n      ")}`);
  }
}

export function equal(got, want, what) {
  if (got !== want) throw new Error(`${what}: ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}

export function summary() {
  console.log(`${passed} passed, ${failed} failed`);
  return failed === 0 && passed > 0 ? 0 : 1;
}

// Demo is a running `tally demo` in a folder of its own.
export class Demo {
  static async start() {
    const demo = new Demo();
    demo.root = await folder("tally-browser-");
    const env = { ...process.env };
    for (const name of Object.keys(env)) if (name.startsWith("TALLY_")) delete env[name];
    demo.env = env;
    const args = ["demo", "--dir", join(demo.root, "data"), "--api", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--output", "json"];
    demo.child = start(args, env);
    demo.exited = once(demo.child, "exit");
    demo.log = "";
    demo.child.stderr.on("data", (d) => (demo.log = (demo.log + d).slice(-20_000)));
    let out = "";
    for await (const chunk of demo.child.stdout.iterator({ destroyOnReturn: false })) {
      out += chunk;
      try {
        Object.assign(demo, JSON.parse(out));
        demo.child.stdout.resume();
        return demo;
      } catch {
        // not whole yet
      }
    }
    throw new Error(`tally demo did not get ready:\n${out}\n${demo.log}`);
  }

  // get reads a document of the API.
  async get(path, init = {}) {
    const headers = { Authorization: `Bearer ${this.token}`, ...init.headers };
    const answer = await fetch(this.api + path, { ...init, headers, signal: AbortSignal.timeout(patience) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  async link(customer) {
    const init = { method: "POST", body: "{}", headers: { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() } };
    return (await this.get(`/v1/customers/${customer}/portal-link`, init)).url;
  }

  // command starts a command of the CLI against this demo.
  command(...args) {
    const child = start([...args, "--dir", join(this.root, "data"), "--output", "json"], this.env);
    let out = "";
    let err = "";
    child.stdout.on("data", (d) => (out += d));
    child.stderr.on("data", (d) => (err += d));
    const done = once(child, "close").then(([code]) => {
      if (code !== 0 && !child.killed) throw new Error(`tally ${args.join(" ")}: exit ${code}\n${err}`);
      return out;
    });
    return { child, done };
  }

  async run(...args) {
    return JSON.parse(await this.command(...args).done);
  }

  async stop() {
    if (this.child.exitCode === null && this.child.signalCode === null) this.child.kill("SIGTERM");
    const deadline = setTimeout(() => this.child.kill("SIGKILL"), patience);
    await this.exited;
    clearTimeout(deadline);
  }
}

// Browser is Chromium that talks to nobody but the demo.
export class Browser {
  static async start(executablePath) {
    const b = new Browser();
    b.profile = await folder("tally-chromium-");
    const args = [
      "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ];
    if (process.getuid?.() === 0) args.push("--no-sandbox");
    b.browser = await chromium.launch({ executablePath, args, env: { ...process.env, HOME: b.profile } });
    b.faults = []; // violations of the policy and errors of scripts
    return b;
  }

  // page is a fresh visitor.
  async page(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light", reducedMotion: "reduce", ...options });
    context.setDefaultTimeout(patience);
    await context.exposeBinding("tallyViolation", (_, what) => this.faults.push(what));
    await context.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (e) => {
        window.tallyViolation(`policy: ${e.violatedDirective} ${e.blockedURI} on ${location.pathname}`);
      });
    });
    const page = await context.newPage();
    page.on("pageerror", (e) => this.faults.push(`script: ${e.message} on ${page.url()}`));
    page.on("console", (m) => {
      // A page that says no is logged by the browser as a failed resource; that is not a fault of the page.
      if (m.type() === "error" && !m.text().startsWith("Failed to load resource")) this.faults.push(`console: ${m.text()} on ${page.url()}`);
    });
    return page;
  }

  async stop() {
    await this.browser.close();
  }
}

// shown waits until an element carries a value.
export async function shown(page, name, want) {
  try {
    await page.waitForFunction(([n, w]) => document.querySelector(`[data-test="${n}"]`)?.dataset.value === w, [name, want], { timeout: patience });
  } catch {
    const got = await page.evaluate((n) => document.querySelector(`[data-test="${n}"]`)?.dataset.value, name);
    throw new Error(`${name} shows ${got}, want ${want}`);
  }
}

export function value(page, name) {
  return page.locator(`[data-test="${name}"]`).getAttribute("data-value");
}

// sum adds plain decimals exactly.
export function sum(decimals) {
  const scale = Math.max(0, ...decimals.map((d) => (d.split(".")[1] ?? "").length));
  const units = decimals.reduce((total, d) => {
    const [whole, rest = ""] = d.split(".");
    return total + BigInt(whole + rest.padEnd(scale, "0"));
  }, 0n);
  const digits = units.toString().padStart(scale + 1, "0");
  if (scale === 0) return digits;
  return `${digits.slice(0, -scale)}.${digits.slice(-scale)}`.replace(/\.?0+$/, "");
}
