// Places for which there is no program: say so in every channel, and never pass for a watched job.
//
// On Linux the program looks for itself and says the same in its own words (src/run/action/place.rs).
import fs from "node:fs";
import path from "node:path";
import { command, input, output, Refused } from "./runner.mjs";

const TITLE = "edamame-guard is not watching this job";
const SUPPORTED = "Supported are Linux runners that are machines of their own, x64 or arm64, such as ubuntu-24.04.";

/** What is wrong with this machine, or nothing. */
export function missing(host) {
  if (host.platform !== "linux") {
    const name = { darwin: "macOS", win32: "Windows" }[host.platform] ?? host.platform;
    return `This runner is ${name}.`;
  }
  if (!["x64", "arm64"].includes(host.arch)) return `This runner's processor is ${host.arch}.`;
  return undefined;
}

/** Tells it once, in `pre` or where that did not run in `main`; leaves reports and outputs in `post`. */
export function notWatching(stage, found, host) {
  const wanted = choice(host);
  const isFirst = stage === "pre" || (stage === "main" && !host.environment.STATE_told);
  if (isFirst) {
    const text = `${found} ${SUPPORTED} Move the job to one, or set \`on-unsupported: skip\` to leave it unwatched without this note.`;
    const level = { fail: "error", warn: "warning", skip: undefined }[wanted];
    host.say(level ? command(level, { title: TITLE }, text) : `${TITLE}: ${text}`);
    if (host.environment.GITHUB_STATE) fs.appendFileSync(host.environment.GITHUB_STATE, "told=true\n");
  }
  if (stage === "post") reports(found, wanted, host);
  return wanted === "fail" && isFirst ? 125 : 0;
}

/** What `on-unsupported` says; words that nobody knows are refused here too. */
function choice(host) {
  const word = input(host, "on-unsupported");
  if (!["", "fail", "warn", "skip"].includes(word)) {
    throw new Refused(`on-unsupported: \`${word}\` is not one of fail, warn, skip`);
  }
  const mode = input(host, "mode") || input(host, "egress-policy");
  if (!["", "audit", "block", "enforce", "log"].includes(mode)) {
    throw new Refused(`mode: \`${mode}\` is not one of audit, block, enforce, log`);
  }
  return word || (["block", "enforce"].includes(mode) ? "fail" : "warn");
}

/** A skipped test case and a run that did not succeed, so that the absence can be seen. */
function reports(found, wanted, host) {
  const environment = host.environment;
  const folder = path.resolve(
    environment.GITHUB_WORKSPACE ?? ".",
    input(host, "report-dir") || path.join(environment.RUNNER_TEMP ?? ".", "edamame-guard-report"),
  );
  fs.mkdirSync(folder, { recursive: true });
  const text = `not watched: ${found}`;
  const xml = text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
  const junit = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites><testsuite name="edamame-guard" tests="1" failures="0" errors="0" skipped="1"><testcase classname="edamame-guard" name="watching"><skipped message="${xml}"/></testcase></testsuite></testsuites>
`;
  const sarif = {
    $schema: "https://json.schemastore.org/sarif-2.1.0.json",
    version: "2.1.0",
    runs: [
      {
        tool: { driver: { name: "edamame-guard", rules: [] } },
        invocations: [
          {
            executionSuccessful: false,
            toolExecutionNotifications: [{ level: wanted === "fail" ? "error" : "warning", message: { text } }],
          },
        ],
        results: [],
      },
    ],
  };
  for (const [name, content, wish] of [
    ["junit.xml", junit, "junit-file"],
    ["results.sarif", `${JSON.stringify(sarif, undefined, 2)}\n`, "sarif-file"],
  ]) {
    fs.writeFileSync(path.join(folder, name), content);
    const other = input(host, wish);
    const file = other ? path.resolve(environment.GITHUB_WORKSPACE ?? ".", other) : path.join(folder, name);
    if (other) fs.writeFileSync(file, content);
    output(host, wish, file);
  }
  output(host, "report-dir", folder);
  output(host, "watching", "false");
  output(host, "verdict", "blind");
  output(host, "coverage", "blind");
  output(host, "findings", "0");
  output(host, "lost-events", "0");
  output(host, "effective-mode", "none");
  if (environment.GITHUB_STEP_SUMMARY && input(host, "job-summary") !== "false") {
    fs.appendFileSync(environment.GITHUB_STEP_SUMMARY, `## edamame-guard is not watching this job\n\n${found} ${SUPPORTED}\n`);
  }
}
