"use strict";

const PERIOD = 2000;
const TOKEN = "sandbox-token";
const $ = (id) => document.getElementById(id);
let total = null;

async function ask(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  if (response.status === 401) {
    // Unless another was entered since.
    if (sessionStorage.getItem(TOKEN) === token) sessionStorage.removeItem(TOKEN);
    $("entry").hidden = false;
  }
  if (!response.ok) {
    throw new Error((await response.text()).trim() || `HTTP status ${response.status}`);
  }
  return response.json();
}

function element(name, text, kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = kind;
  return made;
}

function state(text, bad = false) {
  $("state").textContent = text;
  $("state").className = bad ? "bad" : "";
}

function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; number >= 1024 && unit < units.length - 1; unit += 1) number /= 1024;
  return `${unit ? number.toFixed(1) : number} ${units[unit]}`;
}

function outcome(status) {
  const known = { 0: "done", "-1": "failed on the sandbox", "-2": "timed out",
    "-3": "result file not found", "-4": "result file is not UTF-8" };
  return known[status] ?? `exit code ${status}`;
}

function meter(id, value, max) {
  $(id).max = max;
  $(id).value = value;
}

function showUsage(activity, usage) {
  $("slots").textContent = `${activity.running} of ${activity.slots} in use`;
  meter("slots-meter", activity.running, activity.slots);
  $("waiting").textContent = activity.waiting;
  $("cpu").textContent = `${Math.round(usage.cpu.usage * 100)} %`;
  meter("cpu-meter", usage.cpu.usage, 1);
  $("memory").textContent = `${bytes(usage.memory.ram)} of ${bytes(total)}`;
  meter("memory-meter", usage.memory.ram, total);
  const most = activity.max_storage === null ? "" : ` of ${bytes(activity.max_storage)}`;
  $("environments").textContent = `${activity.environments}, ${bytes(activity.stored)}${most}`;
  $("isolation").textContent = activity.isolation;
}

function showRecent(executions) {
  if (!executions.length) return;
  $("recent").replaceChildren(...executions.map((each) => {
    const row = document.createElement("tr");
    const ran = each.status !== null;
    const time = element("td", new Date(each.time).toLocaleTimeString([], { hour12: false }));
    const left = each.http_status === 499;
    const refusal = left ? "cancelled" : `refused, ${each.http_status}`;
    const kind = each.status === 0 ? "good" : left ? "" : "bad";
    row.append(time, element("td", each.commands),
      element("td", ran ? outcome(each.status) : refusal, kind),
      element("td", each.seconds.toFixed(2), "number"));
    return row;
  }));
}

async function refresh() {
  try {
    total ??= (await ask("specifications/")).host.memory.ram;
    const [activity, usage] = await Promise.all([ask("activity"), ask("usages/")]);
    showUsage(activity, usage);
    showRecent(activity.executions);
    state(`Version ${activity.version}, live`);
    $("entry").hidden = true;
  } catch (error) {
    state(error.message, true);
  }
}

async function watch() {
  if (!document.hidden && $("entry").hidden) await refresh();
  setTimeout(watch, PERIOD);
}

function showResult(result) {
  for (const each of result.execution) {
    const box = element("div", "", "result");
    const seconds = `${each.time.toFixed(3)} s`;
    box.append(element("h3", `$ ${each.command}`));
    if (each.stdout) box.append(element("pre", each.stdout));
    if (each.stderr) box.append(element("pre", each.stderr, "error"));
    const good = each.exit_code === 0;
    const why = each.exceeded ? `, that took too much ${each.exceeded}` : "";
    box.append(element("p", `${outcome(each.exit_code)}${why}, ${seconds}`, good ? "good" : "bad"));
    $("output").append(box);
  }
}

async function run(event) {
  event.preventDefault();
  const form = new FormData();
  const commands = $("commands").value.split("\n").filter((line) => line.trim());
  form.append("config", JSON.stringify({ commands }));
  $("go").disabled = true;
  $("output").replaceChildren(element("p", "Running…", "hint"));
  try {
    const result = await ask("execute/", { method: "POST", body: form });
    $("output").replaceChildren();
    showResult(result);
  } catch (error) {
    $("output").replaceChildren(element("p", error.message, "error"));
  }
  $("go").disabled = false;
  refresh();
}

$("run").addEventListener("submit", run);
$("commands").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("run").requestSubmit();
});
$("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value);
  $("token").value = "";
  refresh();
});
watch();
