"use strict";

const $ = (id) => document.getElementById(id);
const RETRY_MS = 1000;

let state = null; // what /api/source told: name, tasks, clips
let annotator = "";
let current = 0;
let history = []; // {file, task, former}: what undo takes back, newest last
let keys = new Map(); // key -> {task, label}
let unsaved = []; // strokes that the server has not confirmed, oldest first
let sending = false;

class Refused extends Error {}

async function ask(path, options) {
  const answer = await fetch(path, options);
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    const text = typeof told.detail === "string" ? told.detail : `refused (${answer.status})`;
    throw answer.status < 500 ? new Refused(text) : new Error(text);
  }
  return answer.json();
}

// --- who labels -----------------------------------------------------------------------------------------------------

async function begin(name) {
  const told = await ask(`/api/source?annotator=${encodeURIComponent(name)}`);
  state = told;
  annotator = name;
  keys = new Map(told.tasks.flatMap((task) => task.classes.map((c) => [c.key, { task: task.name, label: c.name }])));
  history = JSON.parse(sessionStorage.getItem(historyKey()) || "[]");
  localStorage.setItem("merlb-annotator", name);
  $("source").textContent = told.name;
  document.title = `${told.name}: labels`;
  $("who").textContent = name;
  $("who").setAttribute("aria-label", `Annotator ${name}: change`);
  drawTasks();
  current = -1;
  show(firstUnlabelled(0) ?? 0);
  drawAgreement();
}

const historyKey = () => `merlb-undo ${state.name} ${annotator}`;

async function askName() {
  try {
    const told = await ask("/api/source");
    $("known").replaceChildren(...told.annotators.map((name) => new Option(name, name)));
    $("source").textContent = told.name;
  } catch (error) {
    trouble(error.message);
  }
  $("annotator").value = annotator || localStorage.getItem("merlb-annotator") || "";
  $("ask").showModal();
  $("annotator").select();
}

$("ask-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = $("annotator").value.trim();
  try {
    await begin(name);
    $("annotator").setCustomValidity("");
    $("ask").close();
  } catch (error) {
    $("annotator").setCustomValidity(error.message);
    $("annotator").reportValidity();
  }
});
$("annotator").addEventListener("input", () => $("annotator").setCustomValidity(""));
$("ask").addEventListener("cancel", (event) => {
  if (!annotator) event.preventDefault();
});
$("who").addEventListener("click", askName);

// --- the clip that is shown -----------------------------------------------------------------------------------------

const isLabelled = (clip) => state.tasks.every((task) => clip.labels[task.name]);

function firstUnlabelled(from) {
  const count = state.clips.length;
  for (let step = 0; step < count; step++) {
    const index = (from + step) % count;
    if (!isLabelled(state.clips[index])) return index;
  }
  return null;
}

function show(index) {
  if (index !== current) {
    current = index;
    const video = $("video");
    video.src = state.clips[index].url;
    video.play().catch(() => {}); // browsers may want a key pressed first
  }
  draw();
}

function draw() {
  const clip = state.clips[current];
  const done = state.clips.filter(isLabelled).length;
  $("file").textContent = clip.file;
  $("streamer").textContent = `${clip.streamer} · clip ${current + 1} of ${state.clips.length}`;
  $("bar").max = state.clips.length;
  $("bar").value = done;
  $("count").textContent = `${done} of ${state.clips.length} labelled`;
  $("undo").disabled = !history.length;
  for (const button of document.querySelectorAll("#tasks button")) {
    button.setAttribute("aria-pressed", String(clip.labels[button.dataset.task] === button.dataset.label));
  }
}

function drawTasks() {
  $("tasks").replaceChildren(
    ...state.tasks.map((task) => {
      const group = document.createElement("fieldset");
      const legend = document.createElement("legend");
      legend.textContent = task.name;
      const classes = document.createElement("div");
      classes.className = task.classes.length > 4 ? "classes many" : "classes";
      classes.append(...task.classes.map((of) => classButton(task.name, of)));
      group.append(legend, classes);
      return group;
    }),
  );
}

function classButton(task, { name, key }) {
  const button = document.createElement("button");
  const kbd = document.createElement("kbd");
  kbd.textContent = key.toUpperCase();
  button.type = "button";
  button.dataset.task = task;
  button.dataset.label = name;
  button.setAttribute("aria-keyshortcuts", key);
  button.append(kbd, name);
  button.addEventListener("click", () => answer(task, name));
  return button;
}

$("video").addEventListener("error", () => {
  if (state) trouble(`${state.clips[current].file} cannot be played here: skip it`);
});
$("video").addEventListener("loadeddata", () => {
  if (!unsaved.length) trouble("");
});

// --- strokes --------------------------------------------------------------------------------------------------------

function answer(task, label) {
  const clip = state.clips[current];
  const former = clip.labels[task] ?? null;
  const wasLabelled = isLabelled(clip);
  const given = former === label ? null : label;
  remember({ file: clip.file, task, former });
  set(clip, task, given);
  say(given ? `${task}: ${given}` : `${task}: taken back`);
  if (!wasLabelled && isLabelled(clip)) {
    const next = firstUnlabelled(current + 1);
    if (next === null) say("All clips are labelled");
    else show(next);
  }
}

function set(clip, task, label) {
  if (label === null) delete clip.labels[task];
  else clip.labels[task] = label;
  draw();
  document.body.dataset.saved = "no";
  unsaved.push({ annotator, file: clip.file, task, label });
  send();
}

function undo() {
  const last = history.pop();
  if (!last) return;
  sessionStorage.setItem(historyKey(), JSON.stringify(history));
  const index = state.clips.findIndex((clip) => clip.file === last.file);
  if (index < 0) return;
  show(index);
  set(state.clips[index], last.task, last.former);
  say(`undone: ${last.task} of ${last.file}`);
}

function remember(stroke) {
  history.push(stroke);
  history = history.slice(-500);
  sessionStorage.setItem(historyKey(), JSON.stringify(history));
}

// One at a time and in order; a stroke stays in the list until the server has it on the disk.
async function send() {
  if (sending) return;
  sending = true;
  while (unsaved.length) {
    try {
      await ask("/api/label", {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(unsaved[0]),
      });
      unsaved.shift();
      trouble("");
    } catch (error) {
      if (error instanceof Refused) {
        trouble(`Not saved: ${error.message}`);
        unsaved.shift();
        continue;
      }
      const why = error instanceof TypeError ? "merlb label does not answer; start it again on this port" : error.message;
      trouble(`${unsaved.length} answer(s) not saved yet: ${why}. Leave this page open: it tries on.`);
      await new Promise((resume) => setTimeout(resume, RETRY_MS));
    }
  }
  sending = false;
  document.body.dataset.saved = "yes";
  drawAgreement();
}

window.addEventListener("beforeunload", (event) => {
  if (unsaved.length) event.preventDefault();
});

// --- agreement ------------------------------------------------------------------------------------------------------

async function drawAgreement() {
  let told;
  try {
    told = await ask("/api/agreement");
  } catch {
    return; // the next stroke asks again
  }
  const names = Object.entries(told.annotators).map(([name, count]) => `${name} (${count})`);
  const several = names.length > 1;
  $("agreement").hidden = !several;
  $("agreement-note").textContent = several
    ? `Clips begun by each: ${names.join(", ")}.${names.length > 2 ? " κ is for two annotators." : ""} 1 is full agreement, 0 what chance gives.`
    : "It shows here once two people have labelled the same clips.";
  const number = (value) => (value === null ? "–" : value.toFixed(2));
  $("agreement").tBodies[0].replaceChildren(
    ...Object.entries(told.tasks).map(([task, of]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = task;
      row.append(head);
      for (const text of [of.clips, number(of.kappa), number(of.alpha)]) row.insertCell().textContent = text;
      return row;
    }),
  );
}

// --- keys -----------------------------------------------------------------------------------------------------------

const ACTS = {
  previous: () => show((current - 1 + state.clips.length) % state.clips.length),
  next: () => show((current + 1) % state.clips.length),
  skip: () => {
    const next = firstUnlabelled(current + 1);
    if (next === null) say("All clips are labelled");
    else show(next);
  },
  undo,
  play: () => ($("video").paused ? $("video").play().catch(() => {}) : $("video").pause()),
  replay: () => {
    $("video").currentTime = 0;
    $("video").play().catch(() => {});
  },
};
const ACT_KEYS = { ArrowLeft: "previous", ArrowRight: "next", Enter: "skip", Backspace: "undo", " ": "play", r: "replay" };

document.addEventListener("keydown", (event) => {
  if (!state || $("ask").open || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const onButton = event.target.closest?.("button") && (event.key === "Enter" || event.key === " ");
  if (onButton || (event.repeat && !event.key.startsWith("Arrow"))) return; // a button's own keys; a key held down is one
  const digit = /^(?:Digit|Numpad)([0-9])$/.exec(event.code); // where digits need Shift (AZERTY)
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const stroke = keys.get(key) ?? keys.get(digit?.[1]);
  if (stroke) answer(stroke.task, stroke.label);
  else if (ACT_KEYS[key]) ACTS[ACT_KEYS[key]]();
  else return;
  event.preventDefault();
});
for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () => state && ACTS[button.dataset.act]());
}

function say(text) {
  $("said").textContent = text;
}

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
}

askName();
