// Records in words and numbers, the same words as on the command line.

export const SIGNS = {
  pending: "○", running: "●", stopping: "◐", completed: "✓", failed: "✕", cancelled: "⊘", abandoned: "!",
};

export const now = () => Date.now() / 1000;

/** 0.25 s, 3.0 s, 1m30s, 2h05m */
export function spoken(seconds) {
  const s = Math.max(0, seconds);
  if (s < 60) return s > 0 && s < 0.995 ? `${s.toFixed(2)} s` : `${s.toFixed(1)} s`;
  const whole = Math.round(s), two = (n) => String(n).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}m${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h${two(Math.floor((whole % 3600) / 60))}m`;
}

export const clock = (at) => new Date(at * 1000).toTimeString().slice(0, 8);

export const ended = (row) => row.outcome !== undefined && row.outcome !== null;

export const age = (row) => (ended(row) ? row.age : now() - row.started_at);

export const fileName = (path) => path.slice(path.lastIndexOf("/") + 1);

export const place = (frame) => (frame.line ? `${fileName(frame.file)}:${frame.line}` : fileName(frame.file));

/** A command line as its user typed it, more or less: without the interpreter and the folders of programs. */
export function command(argv) {
  const [first = "", second = "", ...rest] = argv;
  if (!/python[\d.]*$/.test(first)) return [fileName(first), second, ...rest].join(" ").trim();
  return second.startsWith("-") ? ["python", second, ...rest].join(" ") : [fileName(second), ...rest].join(" ");
}

/** Time left until the deadline, and how much of the way to it lies behind; null without one. */
export function deadline(row) {
  if (row.deadline_at == null) return null;
  const left = row.deadline_at - now();
  const whole = row.timeout || row.deadline_at - row.started_at;
  return { left, share: Math.min(1, Math.max(0, 1 - left / whole)), text: left < 0 ? "over" : `${spoken(left)} left` };
}

/** What `progress()` was given: a share where it is one, and its text. */
export function progress(value) {
  if (value === null || value === undefined) return null;
  if (typeof value === "number") {
    return value >= 0 && value <= 1 ? { share: value, text: `${Math.round(value * 100)} %` } : { text: String(value) };
  }
  if (Array.isArray(value) && value.length === 2 && value[1] > 0) {
    return { share: Math.min(1, value[0] / value[1]), text: `${value[0]} / ${value[1]}` };
  }
  return { text: typeof value === "string" ? value : JSON.stringify(value) };
}

export function cause(reason) {
  if (!reason) return "";
  const words = reason.text ? `${reason.kind}: ${reason.text}` : reason.kind;
  return reason.by ? `${words} (by ${reason.by})` : words;
}

const RUNGS = {
  ASKED: "it ended when asked",
  INSISTED: "it ended when asked again",
  INTERRUPTED: "it was interrupted where it blocked",
  FORCED: "ended by force",
  TERMINATED: "it ended on a signal",
  KILLED: "it had to be killed",
  ABANDONED: "it could not be stopped",
};

export const rung = (name) => (name ? `${RUNGS[name.toUpperCase()] ?? name} (${name.toUpperCase()})` : "");

const refusals = (row) => (row.refusals ? `, after ${row.refusals} ${row.refusals === 1 ? "refusal" : "refusals"}` : "");

const left = (row) => (row.survivors?.length ? ` Still running: ${row.survivors.join(", ")}.` : "");

const at = (frame) => (frame ? `${place(frame)} in ${frame.function}: ${frame.source}` : "");

/** The answer to a cancel in a title and a sentence, and whether it is over. */
export function verdict(stopped) {
  const row = stopped.row ?? {}, took = spoken(stopped.seconds ?? 0);
  switch (stopped.outcome) {
    case "cancelled":
      return { tone: "cancelled", title: `Cancelled in ${took}`, text: `${upper(rung(row.rung) || "it ended")}${refusals(row)}.${left(row)}` };
    case "completed":
      return { tone: "completed", title: `Completed after ${took}`, text: `It was asked to stop and returned a value all the same${refusals(row)}.${left(row)}` };
    case "failed":
      return { tone: "failed", title: `Failed after ${took}`, text: `${row.error ?? "It raised an error of its own."}${left(row)}` };
    case "abandoned":
      return { tone: "abandoned", title: `Could not be stopped in ${took}`, text: row.where ? `It is stuck at ${at(row.where)}` : "It still runs and no longer counts." };
    case "gone":
      return { tone: "cancelled", title: `Gone after ${took}`, text: "Its process ended before it could tell how." };
    default:
      return { tone: "stopping", title: `Still running after ${took}`, text: row.where ? `It stands at ${at(row.where)}` : "It has not ended yet.", open: true };
  }
}

const upper = (words) => words.charAt(0).toUpperCase() + words.slice(1);
