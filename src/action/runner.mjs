// How to talk to the runner: inputs in, commands and command files out.
import fs from "node:fs";

/** Something is asked for that we will not do. The message is for people. */
export class Refused extends Error {}

/** An input of action.yml, trimmed. The runner upper-cases names and keeps hyphens. */
export function input(host, name) {
  return (host.environment[`INPUT_${name.toUpperCase()}`] ?? "").trim();
}

/** One workflow command, escaped so that its text can't end it or begin another. */
export function command(name, properties, text) {
  const data = (value) => String(value).replaceAll("%", "%25").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
  const property = (value) => data(value).replaceAll(":", "%3A").replaceAll(",", "%2C");
  const list = Object.entries(properties).map(([key, value]) => `${key}=${property(value)}`);
  return `::${name}${list.length ? " " : ""}${list.join(",")}::${data(text)}`;
}

/** Keeps a value for the later stages. */
export function state(host, key, value) {
  line(host.environment.GITHUB_STATE, key, value);
}

/** Sets an output of the action. */
export function output(host, key, value) {
  line(host.environment.GITHUB_OUTPUT, key, value);
}

function line(file, key, value) {
  if (!file) return;
  if (/[\r\n]/.test(value)) throw new Refused(`${key} has a line break in it`);
  fs.appendFileSync(file, `${key}=${value}\n`);
}
