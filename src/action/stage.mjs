// What the three stages share: find the program, hand the stage over to it, take its exit status.
//
// The work is in the program (src/run/action.rs). Here is only what has to happen where there is no program
// yet, or none for this machine. There are no packages, and what is read here is what runs.
import { spawn, spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import path from "node:path";
import { digest, program } from "./program.mjs";
import { command, Refused, state } from "./runner.mjs";
import { missing, notWatching } from "./unsupported.mjs";

// The runner's environment that the program gets through sudo. Everything else stays behind: a step can set most
// variables of later ones, such as where certificates lie.
const KEPT = /^(INPUT_|GITHUB_|RUNNER_|STATE_|(CI|HOME|PATH|ImageOS|KUBERNETES_SERVICE_HOST|ACTIONS_RUNNER_CONTAINER_HOOKS)$)/;
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
    return await host.hand(await same(host), name, host);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    host.say(command("error", { title: "edamame-guard" }, error.message));
    return 125;
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
  if (!host.isRoot && spawnSync(SUDO, ["-n", "true"], { stdio: "ignore" }).status === 0) {
    // Names with a hyphen (INPUT_FAIL-ON) are taken as well. A value, such as the token, is never on a command line.
    const names = Object.keys(host.environment).filter((key) => KEPT.test(key) && /^[\w-]+$/.test(key));
    words.unshift(SUDO, "-n", `--preserve-env=${names.join(",")}`, "--");
  }
  // A cancelled job sends SIGINT and then SIGTERM. The program hears of it from the runner as well and finishes;
  // we stay until it has.
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => {});
  return new Promise((resolve, reject) => {
    const child = spawn(words[0], words.slice(1), { stdio: ["ignore", "inherit", "inherit"] });
    child.on("error", reject);
    child.on("close", (status, signal) => resolve(signal ? 125 : status));
  });
}

