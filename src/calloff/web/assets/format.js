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

const TONES = { gone: "cancelled", running: "stopping", lost: "stopping" };

/** The verdict on a cancel, whose words come from the server: its halves, their colour, and whether it may be asked again. */
export function verdict({ outcome, verdict: { kind, head, rest } }) {
  const text = rest ? `${upper(rest)}.` : "";
  return { tone: TONES[kind] ?? (kind === "before" ? outcome : kind), title: upper(head), text, open: kind === "running" };
}

const upper = (words) => words.charAt(0).toUpperCase() + words.slice(1);
