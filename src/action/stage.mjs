// What the three stages share: find the program, hand the stage over to it, take its exit status.
//
// The work is in the program (src/run/action.rs). Here is only what has to happen where there is no program
// yet, or none for this machine. There are no packages, and what is read here is what runs.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import { fileURLToPath } from "node:url";
import path from "node:path";
import { digest, program } from "./program.mjs";
import { command, Refused, state } from "./runner.mjs";
import { missing, notWatching } from "./unsupported.mjs";

// The runner's environment that the program gets through sudo. Everything else stays behind: a step can set most
// variables of later ones, such as where certificates lie.
const KEPT = /^(INPUT_|GITHUB_|RUNNER_|STATE_|(CI|HOME|PATH|ImageOS|HTTPS_PROXY|https_proxy|KUBERNETES_SERVICE_HOST|ACTIONS_RUNNER_CONTAINER_HOOKS)$)/;
// What a step can give later programs to load, these scripts included.
const LOADS = ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "NODE_OPTIONS"];
// Named in full, since a step can also put folders before the search path of later ones.
const SUDO = "/usr/bin/sudo";

/** The machine we run on. Tests bring another one. */
export function here() {
  return {
    platform: process.platform,
    arch: process.arch,
    isRoot: process.getuid?.() === 0,
    above: process.ppid,
    environment: process.env,
    folder: path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../.."),
    say: (line) => process.stdout.write(`${line}\n`),
    hand,
  };
}

/** Runs one stage; gives the exit status of the job's step. */
export async function stage(name, host) {
  try {
    const found = missing(host);
    if (found) return notWatching(name, found, host);
    const loads = loaded(host);
    const status = await host.hand(await same(host), name, host);
    if (!loads) return status;
    // The program itself ran without them. Whether this script did, nobody can say from in here.
    host.say(command("error", { title: "edamame-guard was tampered with" }, `A step gave the later programs of this job something to load: ${loads}. What this script says can't be relied on, so the job is not green.`));
    return 125;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    host.say(command("error", { title: "edamame-guard" }, error.message));
    return 125;
  }
}

/** What a step has given us to load since `pre`, in words; nothing where it is the system's own. */
function loaded(host) {
  const now = LOADS.map((name) => host.environment[name] ?? "");
  const digest = createHash("sha256").update(now.join("\0")).digest("hex");
  const before = host.environment.STATE_loads;
  if (!before) {
    // The job's own variables, as its author wrote them.
    state(host, "loads", digest);
    return undefined;
  }
  if (before === digest) return undefined;
  const [preload, audit, folders, options] = now;
  // An allocator of the system is no hand on us; a name without a folder is looked for where the variable says.
  const isOdd = (file) => (file.startsWith("/") ? !isSystems(file) : file.includes("/") || folders !== "");
  const libraries = [preload, audit].flatMap((list) => list.split(/[\s:]+/).filter(Boolean)).filter(isOdd);
  const scripts = options.split(/\s+/).filter((word) => /^(-r|--require|--import|--(experimental-)?loader)(=|$)/.test(word));
  return [...libraries, ...scripts].join(", ") || undefined;
}

/** Whether this file lies in a folder of the system that no step without root can write to. */
function isSystems(file) {
  try {
    const real = fs.realpathSync(file);
    if (!/^\/(usr|lib|lib64|opt)\//.test(real)) return false;
    for (let place = real; ; place = path.dirname(place)) {
      const { uid, mode } = fs.lstatSync(place);
      if (uid !== 0 || mode & 0o022) return false;
      if (place === "/") return true;
    }
  } catch {
    return false;
  }
}

/** The program, which is the same in all stages: it runs as root, and between them runs the job. */
async function same(host) {
  const { STATE_program: known, STATE_digest: before } = host.environment;
  const file = await program(host, known);
  const now = digest(file);
  if (!known) {
    state(host, "program", file);
    state(host, "digest", now);
  } else if (known !== file || before !== now) {
    throw new Refused(`${file} is not the program that this job began with, so it was not run: SHA-256 ${now}, was ${before}`);
  }
  return file;
}

/** Calls the program, as root where sudo lets us; without sudo it says itself what it can't do. */
function hand(file, name, host) {
  const words = [file, "action", name, "--above", String(host.above)];
  // Root's own program must not load what a step gave this one.
  const env = Object.fromEntries(Object.entries(host.environment).filter(([key]) => KEPT.test(key)));
  if (!host.isRoot && spawnSync(SUDO, ["-n", "true"], { stdio: "ignore" }).status === 0) {
    // Names with a hyphen (INPUT_FAIL-ON) are taken as well. A value, such as the token, is never on a command line.
    const names = Object.keys(host.environment).filter((key) => KEPT.test(key) && /^[\w-]+$/.test(key));
    words.unshift(SUDO, "-n", `--preserve-env=${names.join(",")}`, "--");
  }
  // A cancelled job sends SIGINT and then SIGTERM. The program hears of it from the runner as well and finishes;
  // we stay until it has.
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {});
  return new Promise((resolve, reject) => {
    const child = spawn(words[0], words.slice(1), { env, stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", reject);
    child.on("close", (status, signal) => resolve(signal ? 125 : status));
  });
}

