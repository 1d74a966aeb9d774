#!/usr/bin/env python3
"""A runner of workflow jobs, in small: what edamame-guard relies on, and nothing else.

runner.py PLAN.json: the process that starts the guard and each step. Every rule says which behaviour of
actions/runner it copies. It prints one JSON line for each thing that happened.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid

plan = json.load(open(sys.argv[1]))
workspace, temp = plan["workspace"], plan["temp"]
commands = os.path.join(temp, "_runner_file_commands")
os.makedirs(commands, exist_ok=True)

# The worker marks all that it starts, and at the end ends what still carries the mark (JobExtension.FinalizeJob).
TRACKING = f"github_{uuid.uuid4()}"
BASE = dict(
    os.environ,
    GITHUB_ACTIONS="true",
    GITHUB_JOB=plan["job"],
    GITHUB_WORKSPACE=workspace,
    GITHUB_REPOSITORY="o/r",
    GITHUB_WORKFLOW="CI",
    RUNNER_TEMP=temp,
    RUNNER_TRACKING_ID=TRACKING,
    **plan.get("env", {}),
)


def say(**what):
    print(json.dumps(what), flush=True)


def step_environment(step):
    # Each attempt of each step has command files of its own (FileCommandManager.InitializeFiles).
    guid = str(uuid.uuid4())
    env = dict(BASE, GITHUB_ACTION=step["action"])
    for kind, name in [("OUTPUT", "set_output"), ("ENV", "set_env"), ("STATE", "save_state"), ("STEP_SUMMARY", "step_summary")]:
        path = os.path.join(commands, f"{name}_{guid}")
        open(path, "w").close()
        env[f"GITHUB_{kind}"] = path
    env.update(step.get("env", {}))
    return env


def expendable():
    # A step's process may be ended first when memory is short (ProcessInvoker.WriteProcessOomScoreAdj).
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def begin(step):
    env = step_environment(step)
    if "script" in step:
        # The script lies in the runner's temporary folder under a GUID of its own (ScriptHandler).
        path = os.path.join(temp, f"{uuid.uuid4()}.sh")
        with open(path, "w") as file:
            file.write(step["script"])
        words = ["bash", "-e", path]
    else:
        words = step["words"]

    process = subprocess.Popen(words, env=env, cwd=workspace, preexec_fn=expendable, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    say(step=step["action"], pid=process.pid)
    return process


def finish(step, process):
    try:
        # What a step left behind may hold its output; the worker waits 5 seconds for it and goes on
        # (ProcessInvoker: the wait for the stream readers after the exit).
        output = process.communicate(timeout=5 if process.poll() is not None else 120)[0]
    except subprocess.TimeoutExpired:
        output = None
    say(step=step["action"], status=process.returncode, output=output)


# A cancelled job: SIGINT to the process that the worker started and to no other, SIGTERM 7.5 seconds later, and
# 2.5 seconds after that its end (ProcessInvoker.CancelAndKillProcessTree).
CANCEL = [(signal.SIGINT, 7.5), (signal.SIGTERM, 2.5)]


def cancel(running):
    began = time.monotonic()
    left = dict(running)
    for number, patience in CANCEL:
        for process in left.values():
            process.send_signal(number)
        until = time.monotonic() + patience
        while left and time.monotonic() < until:
            for action in [action for action, process in left.items() if process.poll() is not None]:
                del left[action]
                say(cancelled=action, by=number.name, after=round(time.monotonic() - began, 1))
            time.sleep(0.02)
    for action, process in left.items():
        process.kill()
        process.wait()
        say(cancelled=action, by="SIGKILL", after=round(time.monotonic() - began, 1))


def oom(pid):
    return int(open(f"/proc/{pid}/oom_score_adj").read())


def guard(*words, is_ended=False):
    env = step_environment({"action": "__edamame_guard"})
    process = subprocess.Popen([plan["guard"], *words], env=env, cwd=workspace, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=expendable)
    if is_ended:
        # A worker that is told to shut down cancels what runs, whatever its condition says (HostContext.ShutdownRunner).
        ready_for_signals(process)
        for number, _ in CANCEL:
            process.send_signal(number)
    output, error = process.communicate(timeout=120)
    say(guard=words[0], status=process.returncode, output=output, error=error)
    return process


def ready_for_signals(process):
    until = time.monotonic() + 5
    while process.poll() is None and time.monotonic() < until:
        caught = next(line for line in open(f"/proc/{process.pid}/status") if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def orphans():
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            environment = open(f"/proc/{name}/environ", "rb").read().split(b"\0")
        except OSError:
            continue
        if f"RUNNER_TRACKING_ID={TRACKING}".encode() in environment:
            yield int(name)


# An action starts the guard itself; a step's own text may do so as well.
if plan.get("starts", True):
    guard("start", "--report-dir", plan["report"])
is_cancelled = False
for group in plan["steps"]:
    # Once a job is cancelled only steps that ask for it begin (StepsRunner: `always()` and `cancelled()`).
    group = [step for step in group if not is_cancelled or step.get("always")]
    # Steps may run side by side (background steps).
    running = [(step, begin(step)) for step in group]
    if running and not is_cancelled and running[0][0].get("cancel"):
        # Somebody presses the button once these files are there.
        while not all(os.path.exists(os.path.join(workspace, name)) for name in running[0][0]["cancel"]):
            time.sleep(0.02)
        say(oom={step["action"]: oom(process.pid) for step, process in running})
        cancel({step["action"]: process for step, process in running})
        is_cancelled = True
    for step, process in running:
        finish(step, process)
for pid in orphans():
    say(orphan=pid)
    os.kill(pid, signal.SIGKILL)
status = guard("status", "--json")
for session in os.listdir("/run/edamame-guard"):
    recorder = json.load(open(f"/run/edamame-guard/{session}/session.json"))["pid"]
    if os.path.exists(f"/proc/{recorder}"):
        say(recorder=recorder, oom=oom(recorder))
# The last action's `post` runs with `always()`, so no cancelled job ends it (StepsRunner).
sys.exit(guard("finish", is_ended=plan.get("shutdown", False)).returncode)
