// Speaking to the server. The token comes with the link, behind "#": it is taken out of the address at once, kept for
// this tab alone, and sent in a header. EventSource can't send headers, so the stream is read with fetch.

const KEY = "calloff-token";

export class Denied extends Error {}

/** Takes the token out of the address, if there is one; returns whether a token is known. */
export function takeToken(given = location.hash) {
  const found = /token=([\w-]+)/.exec(given) ?? /^\s*([\w-]{16,})\s*$/.exec(given);
  if (found) sessionStorage.setItem(KEY, found[1]);
  if (location.hash.includes("token=")) history.replaceState(null, "", location.pathname + location.search);
  return sessionStorage.getItem(KEY) !== null;
}

async function ask(path, options) {
  const token = sessionStorage.getItem(KEY) ?? "";
  const headers = { ...options.headers, Authorization: `Bearer ${token}` };
  const response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" });
  if (response.status === 401) throw new Denied(await response.text());
  if (!response.ok) throw new Error(await response.text());
  return response;
}

/** Calls `heard(text)` for each part of the answer that ends with `mark`. */
async function parts(response, mark, heard) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (rest + value).split(mark);
    rest = whole.pop();
    whole.forEach(heard);
  }
}

/** The live stream: `heard(event, data)` until it ends or `signal` aborts it; `opened()` once it is there. */
export async function stream(parameters, opened, heard, signal) {
  const response = await ask(`api/events?${parameters}`, { signal });
  opened();
  await parts(response, "\n\n", (part) => {
    const found = /^event: (\w+)\ndata: (.*)$/.exec(part);
    if (found) heard(found[1], JSON.parse(found[2]));
  });
}

/** Calls an operation off; returns a `Stopped`: how it ended, or that it still runs. */
export async function cancel(asked) {
  const headers = { "Content-Type": "application/json" };
  const response = await ask("api/cancel", { method: "POST", headers, body: JSON.stringify(asked) });
  return response.json();
}
