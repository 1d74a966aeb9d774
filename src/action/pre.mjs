// Starts the recorder before any step runs.
import { here, stage } from "./stage.mjs";

process.exitCode = await stage("pre", here());
