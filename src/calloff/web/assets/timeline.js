// The timeline: each operation a bar from its start to its end, coloured by what became of it. The part between the
// request to stop and the end is striped, the steps of the stop are ticks on it, the deadline is a mark of its own.

import { $, attribute, h, keyed, text } from "./dom.js";
import { age, cause, clock, ended, now, SIGNS, spoken } from "./format.js";

const MOST = 40;
const NICE = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 604800];

const endOf = (row) => (ended(row) ? (row.ended_at ?? row.started_at + row.age) : now());

/** How much a row is worth a bar: what is being stopped or was given up, what failed, what runs, what has just ended. */
function worth(row) {
  if (row.state === "stopping" || row.state === "abandoned") return 0;
  if (row.state === "failed" || row.requested_at) return 1;
  return ended(row) ? 3 : 2;
}

/** Those that get a bar, in the order in which they began: of what runs the oldest, of what has ended the latest. */
function chosen(rows) {
  const order = (row) => (ended(row) ? -endOf(row) : row.started_at);
  const best = [...rows].sort((a, b) => worth(a) - worth(b) || order(a) - order(b)).slice(0, MOST);
  return best.sort((a, b) => a.started_at - b.started_at);
}

/** When the chart has to begin for what happens in it to be seen: what merely runs on since long ago is cut, not the rest. */
function beginning(rows, end) {
  const events = rows.flatMap((row) => (ended(row) ? [row.requested_at ?? endOf(row)] : row.requested_at ? [row.requested_at] : []));
  const ages = rows.map((row) => end - row.started_at).sort((a, b) => a - b);
  const needed = Math.max(5, events.length ? (end - Math.min(...events)) * 1.2 : (ages[ages.length >> 1] ?? 0));
  return end - Math.max(needed, ...ages.filter((age) => age <= 4 * needed));
}

/** From when to when is shown: the given seconds, or what the bars need, with room for what comes. */
function span(rows, seconds) {
  const end = now();
  const first = seconds ? end - seconds : beginning(rows, end);
  const room = (end - first) * 0.25;
  const due = rows.filter((row) => !ended(row) && row.deadline_at > end).map((row) => row.deadline_at);
  const ahead = Math.min(room, Math.max(room * 0.15, ...due.map((at) => (at - end) * 1.06).filter((left) => left <= room)));
  return { first, last: end + ahead };
}

function words(row) {
  const parts = [`${row.name}: ${row.state}`, `started ${clock(row.started_at)}`, `${ended(row) ? "ran" : "for"} ${spoken(age(row))}`];
  if (row.deadline_at) parts.push(`deadline ${clock(row.deadline_at)}`);
  if (row.reason) parts.push(cause(row.reason));
  if (row.steps) parts.push(row.steps.map((step) => `${step.rung.toLowerCase()} ${clock(step.at)}`).join(", "));
  return parts.join("; ");
}

function make(row, open) {
  const button = h("button", { type: "button", class: "open", click: () => open(row.id) },
    h("span", { class: "label" }, h("span", { class: "sign" }), h("span", { class: "who" })),
    h("span", { class: "track" }, h("i", { class: "ran" }), h("i", { class: "stop" }), h("i", { class: "still" }), h("span", { class: "steps" }), h("i", { class: "due" })));
  return h("li", { "data-id": row.id }, button);
}

function show(item, row, { first, last }, { selected, living }) {
  item.className = `s-${row.state}${row.id === selected ? " selected" : ""}`;
  const button = item.firstElementChild, [label, track] = button.children;
  const x = (at) => `${((100 * (at - first)) / (last - first)).toFixed(3)}%`;
  const put = (node, from, to) => {
    node.hidden = to < first || from > last;
    node.style.left = x(Math.max(from, first));
    node.style.right = `calc(100% - ${x(Math.min(to, last))})`;
  };
  text(label.firstElementChild, SIGNS[row.state] ?? "?");
  text(label.lastElementChild, row.count > 1 ? `${row.name} ×${row.count}` : row.name);
  attribute(button, "aria-label", words(row));
  attribute(button, "title", words(row).replaceAll("; ", "\n"));
  const [ran, stop, still, steps, due] = track.children, end = endOf(row), asked = row.requested_at ?? end;
  put(ran, row.started_at, asked);
  put(stop, asked, end);
  stop.hidden ||= row.requested_at == null;
  put(still, end, now());
  still.hidden ||= !ended(row) || !living.has(row.id); // given up, but not gone
  const at = row.deadline_at;
  due.hidden = at == null || at < first || at > last || (ended(row) && at > end + (last - first));
  if (!due.hidden) due.style.left = x(at);
  keyed(steps, (row.steps ?? []).filter((step) => step.at >= first).map((step, number) => ({ ...step, number })), (step) => step.number,
    () => h("i"), (node, step) => (node.style.left = x(step.at)));
}

function drawAxis({ first, last }) {
  const second = ($("axis").clientWidth || 600) / (last - first); // in pixels; a text needs 84 of them
  const step = NICE.find((step) => step * second >= 84) ?? 2592000;
  const shift = new Date(first * 1000).getTimezoneOffset() * 60;
  const ticks = [];
  for (let at = Math.ceil((first - shift) / step) * step + shift; at < last; at += step) {
    if (Math.abs(at - now()) * second > 46 && Math.min(at - first, last - at) * second > 30) ticks.push(at);
  }
  const x = (at) => `${((100 * (at - first)) / (last - first)).toFixed(3)}%`;
  keyed($("axis"), [...ticks.map((at) => ({ at, text: clock(at) })), { at: now(), text: "now" }], (tick) => tick.text,
    (tick) => h("i", { class: tick.text === "now" ? "now" : "tick" }, h("span", { text: tick.text })),
    (node, tick) => (node.style.left = x(tick.at)));
}

/** Draws `rows`; `living` are the ids of those that have not really ended, abandoned ones included. */
export function drawTimeline(rows, { seconds, selected, living, open }) {
  if (!$("timeline").open) return;
  const from = seconds ? now() - seconds : -Infinity;
  const shown = chosen(rows.filter((row) => living.has(row.id) || endOf(row) >= from));
  $("bars-none").hidden = shown.length > 0;
  const window = span(shown, seconds);
  drawAxis(window);
  keyed($("bars"), shown, (row) => row.id, (row) => make(row, open), (item, row) => show(item, row, window, { selected, living }));
}
