// The scripts of the action where there is no program: other platforms, pins that don't fit, programs that change.
// `cargo test --test action` runs this with the node that is there, from version 20 on.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { here, stage } from "../src/action/stage.mjs";
import { command } from "../src/action/runner.mjs";

/** A machine that only exists here. `inputs` are those of action.yml. */
function machine(inputs = {}, differs = {}) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "action-"));
  const file = (name) => {
    const whole = path.join(folder, name);
    fs.writeFileSync(whole, "");
    return whole;
  };
  const environment = {
    GITHUB_STATE: file("state"),
    GITHUB_OUTPUT: file("output"),
    GITHUB_STEP_SUMMARY: file("summary"),
    GITHUB_WORKSPACE: folder,
    RUNNER_TEMP: path.join(folder, "temp"),
    RUNNER_TOOL_CACHE: path.join(folder, "tools"),
  };
  for (const [name, value] of Object.entries(inputs)) environment[`INPUT_${name.toUpperCase()}`] = value;
  const said = [];
  const ran = [];
  return {
    platform: "linux",
    arch: "x64",
    isRoot: true,
    above: 1,
    folder,
    environment,
    said,
    ran,
    say: (line) => said.push(line),
    hand: async (program, name) => (ran.push([program, name]), 0),
    read: (name) => fs.readFileSync(path.join(folder, name), "utf8"),
    /** What the runner does between two stages. */
    next() {
      for (const line of this.read("state").split("\n").filter(Boolean)) {
        const [key, ...rest] = line.split("=");
        environment[`STATE_${key}`] = rest.join("=");
      }
    },
    ...differs,
  };
}

for (const [platform, name] of [
  ["darwin", "macOS"],
  ["win32", "Windows"],
]) {
  test(`${name} is told once, and leaves reports that show it`, async () => {
    const host = machine({}, { platform });
    assert.equal(await stage("pre", host), 0);
    host.next();
    assert.equal(await stage("main", host), 0);
    assert.equal(await stage("post", host), 0);
    assert.equal(host.said.length, 1, host.said.join("\n"));
    assert.match(host.said[0], /^::warning title=edamame-guard is not watching this job::/);
    assert.ok(host.said[0].includes(`This runner is ${name}.`) && host.said[0].includes("Supported are Linux runners"));
    assert.match(host.read("temp/edamame-guard-report/junit.xml"), /<skipped message="not watched: /);
    const sarif = JSON.parse(host.read("temp/edamame-guard-report/results.sarif"));
    assert.equal(sarif.runs[0].invocations[0].executionSuccessful, false);
    assert.match(host.read("output"), /^watching=false$/m);
    assert.match(host.read("output"), /^verdict=blind$/m);
    assert.match(host.read("summary"), /is not watching this job/);
    assert.deepEqual(host.ran, []);
  });
}

test("on-unsupported fails, or says it quietly, as asked", async () => {
  const status = async (inputs) => {
    const host = machine(inputs, { platform: "darwin" });
    return [await stage("pre", host), host.said[0].split(" ")[0]];
  };
  assert.deepEqual(await status({ "on-unsupported": "fail" }), [125, "::error"]);
  assert.deepEqual(await status({ "on-unsupported": "skip" }), [0, "edamame-guard"]);
  assert.deepEqual(await status({ mode: "block" }), [125, "::error"]);
  assert.deepEqual(await status({ "egress-policy": "enforce" }), [125, "::error"]);
  assert.deepEqual(await status({ mode: "block", "on-unsupported": "warn" }), [0, "::warning"]);
  assert.deepEqual(await status({ "on-unsupported": "perhaps" }), [125, "::error"]);
  assert.deepEqual(await status({ mode: "strict" }), [125, "::error"]);
});

test("a processor without a program is told as well", async () => {
  const host = machine({}, { arch: "riscv64" });
  assert.equal(await stage("pre", host), 0);
  assert.ok(host.said[0].includes("riscv64"));
});

test("binary-path is used, and only as long as it stays the same", async () => {
  const host = machine({ "binary-path": "guard" });
  fs.writeFileSync(path.join(host.folder, "guard"), "one");
  assert.equal(await stage("pre", host), 0);
  host.next();
  assert.equal(await stage("main", host), 0);
  assert.deepEqual(host.ran.map(([, name]) => name), ["pre", "main"]);
  fs.writeFileSync(path.join(host.folder, "guard"), "two");
  assert.equal(await stage("post", host), 125);
  assert.equal(host.ran.length, 2);
  assert.match(host.said.at(-1), /^::error .*is not the program that this job began with/);
  const missing = machine({ "binary-path": "none" });
  assert.equal(await stage("pre", missing), 125);
  assert.match(missing.said[0], /there is no file/);
});

test("what a step gives later programs to load is told, unless it is the system's", async () => {
  const after = async (variables) => {
    const host = machine({ "binary-path": "guard" });
    fs.writeFileSync(path.join(host.folder, "guard"), "one");
    fs.writeFileSync(path.join(host.folder, "x.so"), "");
    await stage("pre", host);
    host.next();
    Object.assign(host.environment, variables(host.folder));
    const status = await stage("post", host);
    // Reports are written all the same.
    assert.deepEqual(host.ran.map(([, name]) => name), ["pre", "post"]);
    return [status, host.said.at(-1)];
  };
  for (const variables of [
    (folder) => ({ LD_PRELOAD: `${folder}/x.so` }),
    () => ({ LD_PRELOAD: "x.so", LD_LIBRARY_PATH: "/somewhere" }),
    () => ({ LD_AUDIT: "./x.so" }),
    () => ({ NODE_OPTIONS: "--max-old-space-size=4096 --require=./x.js" }),
    () => ({ NODE_OPTIONS: "--import ./x.mjs" }),
  ]) {
    const [status, said] = await after(variables);
    assert.equal(status, 125);
    assert.match(said, /^::error title=edamame-guard was tampered with::/);
  }
  const library = ["/usr/lib/x86_64-linux-gnu/libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6", "/usr/lib/aarch64-linux-gnu/libc.so.6"].find((file) => fs.existsSync(file));
  for (const variables of [
    () => ({ LD_PRELOAD: library ?? "" }),
    () => ({ LD_PRELOAD: "libjemalloc.so.2" }),
    () => ({ NODE_OPTIONS: "--max-old-space-size=4096" }),
  ]) {
    assert.equal((await after(variables))[0], 0);
  }
  // What was there before the job's first step is its author's.
  const host = machine({ "binary-path": "guard" });
  fs.writeFileSync(path.join(host.folder, "guard"), "one");
  host.environment.LD_PRELOAD = "/w/own.so";
  await stage("pre", host);
  host.next();
  assert.equal(await stage("post", host), 0);
});

test("the program gets none of what a step can set", async () => {
  const host = machine({ "binary-path": "guard", token: "t" });
  fs.writeFileSync(path.join(host.folder, "guard"), "#!/bin/sh\nenv >\"$GITHUB_WORKSPACE/env\"\n", { mode: 0o755 });
  delete host.hand;
  const { hand } = here();
  Object.assign(host.environment, { LD_PRELOAD: "", SSL_CERT_FILE: "/w/ca", BASH_ENV: "/w/rc", RUNNER_NAME: "r" });
  assert.equal(await stage("pre", { ...host, hand, isRoot: true }), 0);
  const names = host.read("env").split("\n").map((line) => line.split("=")[0]);
  for (const name of ["SSL_CERT_FILE", "BASH_ENV", "LD_PRELOAD"]) assert.ok(!names.includes(name), name);
  for (const name of ["INPUT_TOKEN", "RUNNER_NAME", "GITHUB_STATE"]) assert.ok(names.includes(name), name);
});

/** A server on loopback with one file; calls `body` with a machine whose pin names it. */
async function released(content, pin, body) {
  let asked = 0;
  const server = http.createServer((_, answer) => (asked++, answer.end(content)));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = machine();
  const whole = Buffer.from("#!/bin/sh\nexit 0\n");
  const sha256 = createHash("sha256").update(whole).digest("hex");
  const url = `http://127.0.0.1:${server.address().port}/edamame-guard`;
  fs.mkdirSync(path.join(host.folder, "src/action"), { recursive: true });
  fs.writeFileSync(
    path.join(host.folder, "src/action/pin.json"),
    JSON.stringify({ version: "1.2.3", x64: { url, size: whole.length, sha256, ...pin } }),
  );
  try {
    await body(host, () => asked);
  } finally {
    server.close();
  }
}

test("a released program is fetched once and compared each time", async () => {
  await released("#!/bin/sh\nexit 0\n", {}, async (host, asked) => {
    assert.equal(await stage("pre", host), 0, host.said.join("\n"));
    host.next();
    assert.equal(await stage("main", host), 0);
    assert.equal(asked(), 1);
    const [program] = host.ran[0];
    fs.appendFileSync(program, "# more\n");
    assert.equal(await stage("post", host), 0);
    // What lay in the cache did not fit, so it was fetched again.
    assert.equal(asked(), 2);
    assert.equal(fs.readFileSync(program, "utf8"), "#!/bin/sh\nexit 0\n");
  });
});

test("what is not the released program is never run", async () => {
  for (const [content, pin, why] of [
    ["#!/bin/sh\nexit 1\n", {}, /SHA-256 differs/],
    ["#!/bin/sh\n", {}, /SHA-256 differs/],
    ["#!/bin/sh\nexit 0\n and a great deal more", {}, /is larger than the/],
    ["#!/bin/sh\nexit 0\n", { sha256: "0".repeat(64) }, /SHA-256 differs/],
    ["#!/bin/sh\nexit 0\n", { sha256: "short" }, /names no whole release/],
    ["#!/bin/sh\nexit 0\n", { url: "http://127.0.0.1:1/x" }, /cannot download/],
  ]) {
    await released(content, pin, async (host) => {
      assert.equal(await stage("pre", host), 125);
      assert.deepEqual(host.ran, []);
      assert.match(host.said.at(-1), why);
    });
  }
});

test("a checkout without a pin is built by cargo, once for each commit, and says so", async () => {
  const host = machine();
  const tree = path.join(host.folder, "tree");
  const bin = path.join(host.folder, "bin");
  for (const folder of [tree, bin]) fs.mkdirSync(folder);
  fs.writeFileSync(path.join(tree, "file"), "x");
  const git = (...words) => execFileSync("git", ["-c", "user.name=a", "-c", "user.email=a@b.example", "-C", tree, ...words]);
  git("init", "-q");
  git("add", ".");
  git("commit", "-qm", "x");
  // It notes that it ran, and leaves a program where cargo would.
  const cargo = `#!/bin/sh
echo "$@" >>"${host.folder}/called"
while [ "$1" != --target-dir ]; do shift; done
mkdir -p "$2/release" && echo program >"$2/release/edamame-guard"
`;
  fs.writeFileSync(path.join(bin, "cargo"), cargo, { mode: 0o755 });
  const before = process.env.PATH;
  process.env.PATH = `${bin}:${before}`;
  try {
    const again = machine({}, { folder: tree });
    for (const job of [again, machine({}, { folder: tree }), machine({}, { folder: tree })]) {
      job.environment.RUNNER_TOOL_CACHE = again.environment.RUNNER_TOOL_CACHE;
      assert.equal(await stage("pre", job), 0, job.said.join("\n"));
      assert.equal(job.said.length, job === again ? 1 : 0);
    }
    assert.match(again.said[0], /^::notice .*is built from it with cargo/);
    assert.match(host.read("called"), /^build --release --locked --bin edamame-guard --target-dir [^\n]*commit-[0-9a-f]{40}\n$/);
    // What was changed since is no commit's, so nothing is kept.
    fs.writeFileSync(path.join(tree, "file"), "y");
    assert.equal(await stage("pre", machine({}, { folder: tree })), 0);
    assert.equal(host.read("called").trim().split("\n").length, 2);
    fs.writeFileSync(path.join(bin, "cargo"), "#!/bin/sh\nexit 101\n");
    const broken = machine({}, { folder: tree });
    assert.equal(await stage("pre", broken), 125);
    assert.match(broken.said.at(-1), /can't be built from this checkout \(cargo ended with 101\)/);
  } finally {
    process.env.PATH = before;
  }
});

test("another version than the pinned one is refused", async () => {
  await released("#!/bin/sh\nexit 0\n", {}, async (host) => {
    host.environment.INPUT_VERSION = "v1.2.3";
    assert.equal(await stage("pre", host), 0);
    host.environment.INPUT_VERSION = "9.9.9";
    assert.equal(await stage("pre", host), 125);
  });
  const host = machine({ version: "1.0.0" });
  assert.equal(await stage("pre", host), 125);
  assert.match(host.said[0], /pins no release/);
});

test("no text ends a command or begins another", () => {
  assert.equal(
    command("error", { title: "a,b:c\n" }, "1\r\n::error::2 %0A"),
    "::error title=a%2Cb%3Ac%0A::1%0D%0A::error::2 %250A",
  );
});
