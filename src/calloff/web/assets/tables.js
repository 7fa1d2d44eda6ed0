// The two tables: what runs, as a tree below its processes, and what has ended.

import { $, attribute, h, keyed, text } from "./dom.js";
import { age, cause, clock, command, deadline, ended, now, place, progress, SIGNS, spoken } from "./format.js";

const cell = (name, label, ...children) => h("td", { role: "cell", class: name, "data-label": label }, ...children);

function nameCell(row, open) {
  const button = h("button", { type: "button", class: "open", click: () => open(row.id) });
  return h("th", { role: "rowheader", scope: "row", class: "name" }, button, h("code", { class: "id", text: row.id }));
}

function showName(line, row, selected) {
  const button = line.querySelector(".open");
  text(button, row.count > 1 ? `${row.name} ×${row.count}` : row.name);
  attribute(button, "aria-expanded", row.id === selected);
  line.className = `s-${row.state}${row.id === selected ? " selected" : ""}`;
}

const bar = () => h("span", { class: "bar", "aria-hidden": "true" }, h("i"));

function showBar(into, found, none) {
  const [meter, label] = into.children;
  meter.hidden = !found || found.share === undefined;
  if (!meter.hidden) meter.firstElementChild.style.width = `${(found.share * 100).toFixed(1)}%`;
  text(label, found ? found.text : none);
}

function showState(into, row) {
  const badge = into.firstElementChild;
  text(badge.firstElementChild, SIGNS[row.state] ?? "?");
  text(badge.children[1], row.state);
  const refused = row.refusals && !ended(row) ? row.refusals : 0;
  text(badge.lastElementChild, refused ? `${refused}×` : "");
  attribute(badge, "title", [cause(row.reason), refused && `refused ${refused}×`].filter(Boolean).join(", ") || null);
}

const badge = () => h("span", { class: "badge" }, h("span", { "aria-hidden": "true" }), h("span"), h("small"));

// --- what runs

function makeRunning(row, open) {
  const line = h("tr", { role: "row", "data-id": row.id, click: (event) => event.target.closest("button, a") || open(row.id) },
    nameCell(row, open),
    cell("place", "Place"),
    cell("state", "State", badge()),
    cell("age number", "Age"),
    cell("deadline", "Deadline", bar(), h("span")),
    cell("progress", "Progress", bar(), h("span")),
    cell("where", "Where", h("code", { class: "line" }), h("span", { class: "function" }), h("code", { class: "source" })));
  return line;
}

function showRunning(line, { row, level, parent }, selected) {
  showName(line, row, selected);
  const [name, at, state, old, limit, done, where] = line.children;
  name.style.setProperty("--level", Math.min(level, 8));
  attribute(name, "data-level", level || null);
  attribute(name.firstElementChild, "aria-description", parent ? `child of ${parent}` : null);
  text(at, row.place);
  showState(state, row);
  text(old, spoken(now() - row.started_at)); // also of one that was given up: it is still there
  const left = deadline(row);
  showBar(limit, left, "–");
  limit.classList.toggle("none-given", !left);
  limit.classList.toggle("near", Boolean(left) && left.share > 0.8);
  const done_ = progress(row.progress);
  showBar(done, done_, "");
  attribute(done, "title", done_ ? done_.text : null);
  const frame = row.where, [spot, fn, source] = where.children;
  text(spot, frame && frame.line ? place(frame) : "");
  text(fn, frame && frame.line ? frame.function : "");
  text(source, frame ? frame.source || (frame.line ? "" : place(frame)) : "");
  attribute(where, "title", frame ? `${frame.file}${frame.line ? `:${frame.line} in ${frame.function}` : ""}\n${frame.source}` : null);
}

const byProcess = (rows) => [...Map.groupBy(rows, (row) => row.pid).values()].flat();

/** The lines of the table: in a tree, each process has a heading and each child stands below its parent. */
function lines(rows, processes, tree) {
  const found = [], names = new Map(rows.map((row) => [row.id, row.name]));
  let pid = null;
  for (const row of tree ? byProcess(rows) : rows) {
    if (tree && row.pid !== pid) {
      pid = row.pid;
      const process = processes.find((process) => process.pid === pid);
      found.push({ heading: true, id: `process ${pid}`, pid, argv: process?.argv ?? [] });
    }
    found.push({ id: row.id, row, level: (tree && row.depth) || 0, parent: names.get(row.parent) });
  }
  return found;
}

const makeHeading = ({ pid, argv }) => h("tr", { role: "row", class: "process" },
  h("th", { role: "rowheader", colspan: "7" }, h("span", { text: `process ${pid}` }), h("code", { text: command(argv), title: argv.join(" ") })));

export function drawRunning(rows, { processes, sort, selected, open }) {
  keyed($("running-table").tBodies[0], lines(rows, processes, sort === "tree"), (line) => line.id,
    (line) => (line.heading ? makeHeading(line) : makeRunning(line.row, open)),
    (node, line) => line.heading || showRunning(node, line, selected));
}

// --- what has ended

const makeEnded = (row, open) => h("tr", { role: "row", "data-id": row.id, click: (event) => event.target.closest("button, a") || open(row.id) },
  nameCell(row, open), cell("place", "Place"), cell("state", "Outcome", badge()), cell("ran number", "Ran"),
  cell("cleanup number", "Clean-up"), cell("at", "At"), cell("why", "Why"));

function showEnded(line, row, selected) {
  showName(line, row, selected);
  const [, at, state, ran, cleanUp, when, why] = line.children;
  text(at, row.place);
  showState(state, row);
  text(ran, spoken(age(row)));
  text(cleanUp, row.clean_up == null ? "" : spoken(row.clean_up));
  text(when, row.ended_at ? clock(row.ended_at) : "");
  const words = [row.error, cause(row.reason), row.rung && row.rung.toUpperCase()].filter(Boolean).join(" · ");
  text(why, words);
  attribute(why, "title", words || null);
}

export function drawEnded(rows, { selected, open }) {
  keyed($("ended-table").tBodies[0], rows, (row) => row.id, (row) => makeEnded(row, open),
    (node, row) => showEnded(node, row, selected));
}

/** The pages of a table: nothing where one page holds all. */
export function drawPager(pager, { offset, shown, total, limit, go }) {
  pager.hidden = total <= limit && offset === 0;
  if (!pager.firstElementChild) {
    pager.append(h("button", { type: "button", text: "Previous" }), h("span"), h("button", { type: "button", text: "Next" }));
  }
  const [back, label, on] = pager.children;
  text(label, shown ? `${offset + 1} to ${offset + shown} of ${total}` : `none of ${total}`);
  back.disabled = offset === 0;
  on.disabled = offset + shown >= total;
  back.onclick = () => go(Math.max(0, offset - limit));
  on.onclick = () => go(offset + limit);
}
