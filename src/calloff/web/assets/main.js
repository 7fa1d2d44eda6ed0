// The page: what is looked at, the stream that follows from it, and what happens on a key or a click.

import { cancel, Denied, stream, takeToken } from "./api.js";
import { ask } from "./ask.js";
import { drawDetail } from "./detail.js";
import { $, attribute, h, keyed, text } from "./dom.js";
import { SIGNS } from "./format.js";
import { drawEnded, drawPager, drawRunning } from "./tables.js";
import { drawTimeline } from "./timeline.js";

const LIMIT = 100;
const EMPTY = { order: [], total: 0 };
const DEFAULTS = { name: "", state: "", place: "", sort: "tree", reverse: false, tasks: false, fold: false, offset: 0, past: 0, show: "" };

const view = { ...DEFAULTS };
let world = { running: EMPTY, ended: EMPTY, counts: {}, processes: [], silent: [] };
const rows = new Map();
const answers = new Map(); // id -> what became of a cancel
let detail = null, detailTrouble = null, from = null;
let trouble = "";
let known = false; // whether the stream has said anything yet

// --- what is looked at, kept in the address so that a reload shows the same

function readAddress() {
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (!(name in DEFAULTS)) continue;
    const kind = typeof DEFAULTS[name];
    view[name] = kind === "boolean" ? value === "true" : kind === "number" ? Math.max(0, Number.parseInt(value) || 0) : value;
  }
}

function parameters() {
  return new URLSearchParams(Object.entries(view).filter(([name, value]) => value !== DEFAULTS[name]));
}

/** Looks at something else: the address and the stream follow. */
function look(change) {
  Object.assign(view, change);
  history.replaceState(null, "", `?${parameters()}`);
  draw();
  listen();
}

// --- the stream

let listening = null;

async function listen() {
  listening?.abort();
  const { signal } = (listening = new AbortController());
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 5000)) {
    try {
      await stream(`${parameters()}&limit=${LIMIT}`, () => ((pause = 500), say("live", "Live")), heard, signal);
      say("lost", "Connection lost, trying again");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Denied) return void door(error.message);
      say("lost", error instanceof TypeError ? "Connection lost, trying again" : error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

function say(state, words) {
  $("link").dataset.state = state;
  text($("link"), words);
}

function heard(event, data) {
  if (event === "listing") {
    known = true;
    for (const row of data.rows) rows.set(row.id, row);
    const there = new Set([...data.running.order, ...data.ended.order]);
    for (const id of rows.keys()) if (!there.has(id)) rows.delete(id);
    world = data;
    trouble = "";
  } else if (event === "detail") {
    [detail, detailTrouble] = [data, null];
  } else if (data.about === "detail") {
    [detail, detailTrouble] = [null, data.text];
  } else {
    trouble = data.text;
  }
  draw();
}

function drawTrouble() {
  const silent = world.silent.length ? `No answer from process ${world.silent.join(", ")}.` : "";
  text($("trouble"), trouble || silent);
  $("trouble").hidden = !(trouble || silent);
}

// --- drawing

const HELD = 10_000; // milliseconds
let pressed = -Infinity, held = false;

// What is pressed must be there when it is let go: a line that moves away meanwhile would take the click with it.
addEventListener("pointerdown", () => (pressed = performance.now()), true);
addEventListener("click", letGo, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(letGo), true);

function letGo() {
  pressed = -Infinity;
  if (held) draw();
}

const listed = (side) => side.order.map((id) => rows.get(id)).filter(Boolean);

function draw() {
  held = performance.now() - pressed < HELD;
  if (held) return;
  const running = listed(world.running), over = listed(world.ended), selected = view.show || null;
  drawTrouble();
  drawStates();
  drawTimeline([...running, ...over], { seconds: Number($("window").value), selected, living: new Set(world.running.order), open });
  drawRunning(running, { processes: world.processes, sort: view.sort, selected, open });
  drawEnded(over, { selected, open });
  drawRate(world.rates ?? []);
  drawSide("running", world.running, running.length, view.offset, (offset) => look({ offset }));
  drawSide("ended", world.ended, over.length, view.past, (past) => look({ past }));
  for (const head of $("running-table").querySelectorAll("[data-sort]")) {
    attribute(head, "aria-sort", head.dataset.sort === view.sort ? (view.reverse ? "descending" : "ascending") : null);
  }
  const mine = detail?.row?.id === selected ? detail : null;
  const row = mine?.row ?? rows.get(selected) ?? null;
  drawDetail({ id: selected, row, detail: mine, trouble: detailTrouble, answer: answers.get(selected) ?? null }, { close, call, force, open });
}

const NONE = {
  running: () => (world.processes.length
    ? "No operation runs."
    : "No process of yours answers. Those do that calloff run starts, or that have CALLOFF_EXPOSE=1 in their environment."),
  ended: () => "None that is still remembered.",
};

function drawSide(name, side, shown, offset, go) {
  text($(`${name}-total`), view.fold && name === "running" ? `${side.total} kinds` : String(side.total));
  $(`${name}-table`).hidden = shown === 0;
  $(`${name}-none`).hidden = shown > 0;
  const filtered = view.name || view.state || view.place;
  text($(`${name}-none`), !known ? "…" : filtered ? "Nothing matches the filter." : NONE[name]());
  drawPager($(`${name}-pager`), { offset, shown, total: side.total, limit: LIMIT, go });
}

/** How many ended in each of the last sixty seconds. */
function drawRate(rates) {
  const most = Math.max(0, ...rates), of = rates.slice(-5), mean = of.reduce((sum, rate) => sum + rate, 0) / (of.length || 1);
  $("rate").hidden = !most;
  if (!most) return;
  const [picture, words] = $("rate").children, first = 60 - rates.length;
  const points = rates.map((rate, at) => `${first + at},${(16 - (15 * rate) / most).toFixed(1)}`);
  attribute(picture.firstElementChild, "points", [`${first},16`, ...points, "59,16"].join(" "));
  text(words, `${mean < 9.95 ? mean.toFixed(1) : Math.round(mean)} a second, at most ${most < 9.95 ? most.toFixed(1) : Math.round(most)} in the last minute`);
}

function drawStates() {
  const chosen = new Set(view.state.split(",").filter(Boolean));
  keyed($("states"), Object.keys(SIGNS), (state) => state,
    (state) => h("button", { type: "button", class: `chip s-${state}`, click: () => toggleState(state) }, h("span", { "aria-hidden": "true", text: SIGNS[state] }), h("b"), h("span", { text: state })),
    (chip, state) => {
      const count = world.counts[state] ?? 0;
      text(chip.children[1], String(count));
      attribute(chip, "aria-pressed", chosen.has(state) ? "true" : "false");
      chip.classList.toggle("zero", count === 0);
    });
}

function toggleState(state) {
  const chosen = new Set(view.state.split(",").filter(Boolean));
  chosen.delete(state) || chosen.add(state);
  look({ state: [...chosen].join(","), offset: 0, past: 0 });
}

// --- one operation

function open(id) {
  if (!view.show) from = document.activeElement?.closest("[data-id]")?.dataset.id ?? id;
  [detail, detailTrouble] = [null, null];
  look({ show: view.show === id ? "" : id });
  if (view.show) $("detail").focus({ preventScroll: true });
}

function close() {
  look({ show: "" });
  document.querySelector(`[data-id="${CSS.escape(from ?? "")}"] .open`)?.focus();
}

async function call() {
  const id = view.show, row = detail?.row ?? rows.get(id);
  if (!row || row.outcome) return;
  const said = await ask(row, detail);
  if (said) await stop(id, said);
}

const force = () => stop(view.show, { reason: "", grace: 0 });

async function stop(id, { reason, grace }) {
  answers.set(id, { asking: true });
  draw();
  try {
    const answer = await cancel(grace === null ? { id, reason } : { id, reason, grace });
    answers.set(id, answer);
    if (answer.row && rows.has(id)) rows.set(id, answer.row); // no waiting for the stream to say the same
    if (answer.row && detail?.row.id === id) detail = { ...detail, row: answer.row };
  } catch (error) {
    if (error instanceof Denied) return void door(error.message);
    answers.set(id, { error: error.message });
  }
  draw();
}

// --- the door: without a token that fits there is nothing to see

function door(why) {
  listening?.abort();
  say("lost", "Not let in");
  $("door").hidden = false;
  $("page").hidden = true;
  if (why) text($("door-why"), why);
  $("token").focus();
}

function enter() {
  $("door").hidden = true;
  $("page").hidden = false;
  listen();
}

$("knock").addEventListener("submit", (event) => {
  event.preventDefault();
  if (takeToken($("token").value)) enter();
  $("token").value = "";
});
addEventListener("hashchange", () => takeToken() && enter());

// --- tools and keys

function bind(id, event, change) {
  $(id).addEventListener(event, (event) => look({ offset: 0, past: 0, ...change(event.target) }));
}

let typing = 0;
$("name").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => look({ name: $("name").value.trim(), offset: 0, past: 0 }), 250);
});
$("tools").addEventListener("submit", (event) => event.preventDefault());
bind("place", "change", (field) => ({ place: field.value }));
bind("sort", "change", (field) => ({ sort: field.value }));
bind("reverse", "change", (field) => ({ reverse: field.checked }));
bind("tasks", "change", (field) => ({ tasks: field.checked }));
bind("fold", "change", (field) => ({ fold: field.checked }));
for (const id of ["window", "timeline"]) $(id).addEventListener(id === "window" ? "change" : "toggle", draw);

for (const head of $("running-table").querySelectorAll("[data-sort]")) {
  const name = head.textContent;
  const sort = () => look({ sort: head.dataset.sort, reverse: view.sort === head.dataset.sort && !view.reverse });
  head.replaceChildren(h("button", { type: "button", class: "sort", text: name, click: () => (sort(), showTools()) }));
}

function showTools() {
  for (const id of ["name", "place", "sort"]) $(id).value = view[id];
  for (const id of ["reverse", "tasks", "fold"]) $(id).checked = view[id];
}

function move(step) {
  const all = [...document.querySelectorAll(".bars .open, .list .open")].filter((node) => node.offsetParent);
  const here = all.indexOf(document.activeElement);
  (all[here + step] ?? (here < 0 ? all[0] : null))?.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("ask").open) return;
  const field = event.target.closest("input, select, textarea");
  if (event.key === "Escape" && view.show) close();
  else if (field) return;
  else if (event.key === "/") $("name").focus();
  else if (event.key === "ArrowDown" && event.target.closest(".open")) move(1);
  else if (event.key === "ArrowUp" && event.target.closest(".open")) move(-1);
  else if (event.key === "c" && view.show) call();
  else return;
  event.preventDefault();
});

const THEMES = ["system", "light", "dark"];

function theme(name) {
  attribute(document.documentElement, "data-theme", name === "system" ? null : name);
  text($("theme"), `Theme: ${name}`);
  localStorage.setItem("calloff-theme", name);
}

$("theme").addEventListener("click", () => {
  theme(THEMES[(THEMES.indexOf(localStorage.getItem("calloff-theme") ?? "system") + 1) % THEMES.length]);
});

// --- start

readAddress();
showTools();
theme(localStorage.getItem("calloff-theme") ?? "system");
if (matchMedia("(max-width: 700px)").matches) $("timeline").open = false;
setInterval(() => document.hidden || $("page").hidden || draw(), 1000);
document.addEventListener("visibilitychange", () => (document.hidden ? listening?.abort() : $("page").hidden || listen()));
draw();
if (takeToken()) enter();
else door();
