// Everything about one operation: its facts, why and how it is being stopped, its stack, and the button.

import { $, attribute, h, keyed, text } from "./dom.js";
import { age, cause, clock, command, deadline, ended, place, progress, SIGNS, spoken, verdict } from "./format.js";

let shown = null; // the id that the pane was built for
let parts = {};

function build(id, { close, call }) {
  parts = {
    name: h("h2", { id: "detail-name" }),
    state: h("span", { class: "badge" }),
    id: h("code", { class: "id" }),
    call: h("button", { type: "button", class: "danger", text: "Call off …", click: () => call() }),
    verdict: h("div", { class: "verdict", role: "status" }),
    facts: h("dl"),
    stop: h("section", { class: "stop" }, h("h3", { text: "The stop" }), h("p"), h("ol", { class: "steps" })),
    stack: h("section", {}, h("h3", { text: "Where it is" }), h("ol", { class: "stack" }), h("p", { class: "none" })),
    survivors: h("section", { class: "survivors" }, h("h3", { text: "Still there, out of reach" }), h("ul")),
  };
  const closer = h("button", { type: "button", class: "quiet close", "aria-label": "Close the details", text: "✕", click: () => close() });
  $("detail").replaceChildren(
    h("header", {}, parts.name, closer), h("p", { class: "under" }, parts.state, parts.id), parts.call, parts.verdict,
    parts.stop, parts.stack, parts.survivors, parts.facts);
  shown = id;
}

function facts(row, detail, open) {
  const found = [];
  const add = (name, ...value) => value.some((part) => part !== "" && part != null) && found.push({ name, value });
  const link = (id) => h("button", { type: "button", class: "link-like", text: id, click: () => open(id) });
  add("Place", row.place + (row.worker && row.worker !== row.pid ? `, pid ${row.worker}` : ""));
  add("Process", `${row.pid} `, h("code", { text: command(detail?.argv ?? []), title: (detail?.argv ?? []).join(" ") }));
  const used = detail?.usage;
  if (used) add("Uses", `${spoken(used.cpu)} of processor time, ${Math.round(used.memory / 2 ** 20)} MiB${used.processes > 1 ? `, in ${used.processes} processes` : ""}`);
  if (row.parent) add("Parent", link(row.parent));
  if (detail?.children?.length) add("Children", ...detail.children.flatMap((id) => [link(id), " "]));
  add("Started", `${clock(row.started_at)}, ${ended(row) ? `ran ${spoken(age(row))}` : `${spoken(age(row))} ago`}`);
  if (row.ended_at) add("Ended", clock(row.ended_at));
  const left = deadline(row);
  if (left) add("Deadline", `${clock(row.deadline_at)}${ended(row) ? "" : `, ${left.text}`}${row.timeout ? `, of ${spoken(row.timeout)}` : ""}`);
  if (detail?.stall != null) add("Stall", `${spoken(detail.stall)} without progress`);
  if (detail?.grace != null) add("Grace", spoken(detail.grace));
  const done = progress(row.progress);
  if (done) add("Progress", done.text);
  if (row.error) add("Error", row.error);
  return found;
}

function showFacts(row, detail, open) {
  keyed(parts.facts, facts(row, detail, open), (fact) => fact.name,
    (fact) => h("div", {}, h("dt", { text: fact.name }), h("dd")),
    (node, fact) => {
      const now = fact.value.map((part) => (typeof part === "string" ? part : part.textContent)).join("");
      if (node.lastElementChild.textContent !== now) node.lastElementChild.replaceChildren(...fact.value);
    });
}

function showStop(row) {
  parts.stop.hidden = !row.reason;
  if (!row.reason) return;
  const refused = row.refusals ? `, refused ${row.refusals}×` : "";
  const took = row.clean_up == null ? "" : `; it took ${spoken(row.clean_up)}`;
  text(parts.stop.children[1], `${cause(row.reason)}${refused}${took}`);
  const first = row.requested_at ?? row.steps?.[0]?.at ?? 0;
  const steps = (row.steps ?? []).map((step) => ({ name: step.rung.toLowerCase(), at: step.at }));
  if (row.outcome && row.ended_at) steps.push({ name: row.outcome, at: row.ended_at, end: true });
  keyed(parts.stop.lastElementChild, steps, (step) => `${step.name} ${step.at}`,
    (step) => h("li", { class: step.end ? `s-${step.name}` : "" }, h("b", { text: step.name }), h("span", { text: `+${spoken(step.at - first)}` })),
    () => {});
}

function showStack(row, detail) {
  const stuck = detail?.stuck_at?.length ? detail.stuck_at : null;
  const stack = stuck ?? (detail?.stack?.length ? detail.stack : row.where ? [row.where] : []);
  const isCommand = row.place === "command" && !row.where?.line;
  text(parts.stack.firstElementChild, stuck ? "Where it is stuck" : isCommand ? "Command" : row.outcome === "failed" ? "Where it raised" : row.reason && ended(row) ? "Where it was" : "Where it is");
  const none = parts.stack.lastElementChild;
  none.hidden = stack.length > 0;
  text(none, ended(row) ? "It has ended." : "Nothing is known of where it is.");
  const own = stack.findLastIndex((frame) => frame.file === row.where?.file && frame.line === row.where?.line);
  const here = own < 0 ? stack.length - 1 : own; // the line of the user's own code, as in the table; below it: libraries
  keyed(parts.stack.children[1], stack.map((frame, depth) => ({ frame, depth })), (item) => item.depth,
    () => h("li", {}, h("div", {}, h("span", { class: "function" }), h("code", { class: "line" })), h("code", { class: "source" })),
    (node, { frame, depth }) => {
      attribute(node, "class", depth === here ? "here" : depth > here ? "below" : null);
      const [head, source] = node.children;
      text(head.firstElementChild, frame.function);
      text(head.lastElementChild, frame.line ? place(frame) : "");
      attribute(head.lastElementChild, "title", frame.file);
      text(source, frame.source || (frame.line ? "(no source)" : frame.file));
    });
}

function showVerdict(answer, { call, force }) {
  const box = parts.verdict;
  box.hidden = !answer;
  if (!answer || box.answer === answer) return;
  box.answer = answer;
  const close = (tone, title, words, ...more) => {
    box.className = `verdict s-${tone}`;
    box.replaceChildren(h("strong", { text: title }), h("p", { text: words }), ...more);
  };
  if (answer.asking) return close("stopping", "Asked to stop", "Waiting for its real end.");
  if (answer.error) return close("failed", "The cancel did not get through", answer.error);
  const { tone, title, text: words, open } = verdict(answer);
  const more = [h("button", { type: "button", text: "Wait again", click: () => call() }), h("button", { type: "button", class: "danger", text: "Use force now", click: () => force() })];
  close(tone, title, words, ...(open ? [h("div", { class: "buttons" }, ...more)] : []));
}

/** Brings the pane up to date; without a `row` and `detail` it says why there is nothing. */
export function drawDetail({ id, row, detail, trouble, answer }, actions) {
  $("detail").hidden = id === null;
  $("page").classList.toggle("with-detail", id !== null);
  if (id === null) return void (shown = null);
  if (shown !== id) build(id, actions);
  text(parts.id, id);
  showVerdict(answer, actions);
  if (!row) {
    text(parts.name, trouble ? "Not there" : "…");
    text(parts.state, trouble ?? "");
    parts.call.hidden = parts.stop.hidden = parts.stack.hidden = parts.survivors.hidden = true;
    return;
  }
  text(parts.name, row.name);
  text(parts.state, `${SIGNS[row.state] ?? "?"} ${row.state}`);
  $("detail").className = `detail s-${row.state}`;
  parts.stack.hidden = false;
  parts.call.hidden = ended(row);
  text(parts.call, row.state === "stopping" ? "Call off again …" : "Call off …");
  showStop(row);
  showStack(row, detail);
  parts.survivors.hidden = !row.survivors?.length;
  keyed(parts.survivors.lastElementChild, row.survivors ?? [], (line) => line, (line) => h("li", { text: line }), () => {});
  showFacts(row, detail, actions.open);
}
