// Gives the recorder its policy, once the repository can be read.
import { here, stage } from "./stage.mjs";

process.exitCode = await stage("main", here());
