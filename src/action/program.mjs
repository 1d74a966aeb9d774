// Where the program comes from. Whatever comes from elsewhere is compared with the pin before it runs for the first time.
//
// In this order: the input `binary-path`; the pin file, which a tagged release carries and the tree does not; a build
// of this very checkout. Anything else is refused.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { command, input, Refused } from "./runner.mjs";

/** Path of the program. `known` is what an earlier stage of this job found. */
export async function program(host, known) {
  const own = input(host, "binary-path");
  if (own) return given(path.resolve(host.environment.GITHUB_WORKSPACE ?? ".", own), host, known);
  const pins = path.join(host.folder, "src/action/pin.json");
  if (fs.existsSync(pins)) return pinned(JSON.parse(fs.readFileSync(pins, "utf8")), host);
  const version = input(host, "version");
  if (version) throw new Refused(`version: this checkout pins no release, so \`${version}\` can't be had; leave the input out`);
  if (known && fs.existsSync(known)) return known;
  return built(host);
}

/** A program that the user brought. Its digest goes to the log, for whoever wants to compare. */
function given(file, host, known) {
  if (!fs.existsSync(file)) throw new Refused(`binary-path: there is no file ${file}`);
  if (!known) host.say(`edamame-guard: ${file}, as \`binary-path\` says, SHA-256 ${digest(file)}`);
  return file;
}

/** The released program: `{"version": …, "x64": {"url", "size", "sha256"}, "arm64": …}`. */
async function pinned(pins, host) {
  const version = input(host, "version").replace(/^v/, "");
  if (version && version !== pins.version) {
    throw new Refused(`version: this action pins ${pins.version}, not ${version}; use the tag of that version instead`);
  }
  const pin = pins[host.arch];
  if (!pin || !/^[0-9a-f]{64}$/.test(pin.sha256 ?? "") || !Number.isInteger(pin.size) || !URL.canParse(pin.url)) {
    throw new Refused(`the pin file names no whole release for ${host.arch}`);
  }
  const folder = path.join(host.environment.RUNNER_TOOL_CACHE ?? host.environment.RUNNER_TEMP ?? "/tmp", "edamame-guard", pin.sha256);
  const file = path.join(folder, "edamame-guard");
  // The cache is as good as whoever can write to it, so what lies there is compared each time.
  if (fs.existsSync(file) && fits(file, pin)) return file;
  fs.mkdirSync(folder, { recursive: true });
  const part = `${file}.${process.pid}.part`;
  try {
    const answer = await fetch(pin.url, { signal: AbortSignal.timeout(120_000) });
    if (!answer.ok) throw new Refused(`cannot download ${pin.url}: ${answer.status}`);
    await save(answer.body, part, pin);
    if (!fits(part, pin)) throw new Refused(`${pin.url} is not the file that was released: its size or SHA-256 differs; it was not run`);
    fs.chmodSync(part, 0o755);
    fs.renameSync(part, file);
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused(`cannot download ${pin.url}: ${error.cause?.message ?? error.message}`);
  } finally {
    fs.rmSync(part, { force: true });
  }
  return file;
}

/** Never more than the pin says, whatever the server sends. */
async function save(body, part, pin) {
  const out = fs.openSync(part, "wx", 0o600);
  try {
    let size = 0;
    for await (const chunk of body) {
      size += chunk.length;
      if (size > pin.size) throw new Refused(`${pin.url} is larger than the ${pin.size} bytes that were released; it was not run`);
      fs.writeSync(out, chunk);
    }
  } finally {
    fs.closeSync(out);
  }
}

function fits(file, pin) {
  return fs.statSync(file).size === pin.size && digest(file) === pin.sha256;
}

/** SHA-256 of a file, in hex. */
export function digest(file) {
  return createHash("sha256").update(fs.readFileSync(file)).digest("hex");
}

/** A checkout without a pin is no release: the program is built from it, once per commit. */
function built(host) {
  const git = spawnSync("git", ["-C", host.folder, "rev-parse", "HEAD"], { encoding: "utf8" });
  // Without git the runner's name for the action's version has to do, which may move: then nothing is kept.
  const commit = git.status === 0 ? git.stdout.trim() : undefined;
  const isClean = commit && spawnSync("git", ["-C", host.folder, "status", "--porcelain"], { encoding: "utf8" }).stdout === "";
  const base = host.environment.RUNNER_TOOL_CACHE ?? host.environment.RUNNER_TEMP ?? "/tmp";
  const kept = isClean ? path.join(base, "edamame-guard", `commit-${commit}`) : undefined;
  const target = kept ?? path.join(host.environment.RUNNER_TEMP ?? "/tmp", "edamame-guard-build");
  const file = path.join(target, "release", "edamame-guard");
  if (kept && fs.existsSync(file)) return file;
  host.say(command("notice", { title: "edamame-guard" }, "This checkout pins no release, so the program is built from it with cargo. A tagged release is downloaded and checked instead."));
  const cargo = spawnSync("cargo", ["build", "--release", "--locked", "--bin", "edamame-guard", "--target-dir", target], {
    cwd: host.folder,
    stdio: ["ignore", "inherit", "inherit"],
  });
  if (cargo.error || cargo.status !== 0) {
    const why = cargo.error ? cargo.error.message : `cargo ended with ${cargo.status}`;
    throw new Refused(`the program can't be built from this checkout (${why}); use a tagged release, or \`binary-path\``);
  }
  return file;
}
