// Stops the recorder, writes the reports and fails the job on what was found.
import { here, stage } from "./stage.mjs";

process.exitCode = await stage("post", here());
