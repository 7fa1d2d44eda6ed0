// The question before an operation is called off.

import { $, text } from "./dom.js";
import { spoken } from "./format.js";

/** Shows the dialog; resolves to {reason, grace} or null when it is to be kept running. */
export function ask(row, detail) {
  const dialog = $("ask"), form = $("ask-form");
  text($("ask-name"), row.name);
  const children = detail?.children?.length ?? 0;
  const below = children ? ` Its ${children === 1 ? "child is" : `${children} children are`} stopped with it.` : "";
  text($("ask-what"), `${row.id}, ${row.place}. It is asked politely first.${below}`);
  text($("ask-grace"), detail?.grace == null ? "after its own grace" : `after its own grace of ${spoken(detail.grace)}`);
  form.reset();
  return new Promise((answer) => {
    const done = (value) => {
      dialog.onclose = null;
      dialog.close();
      answer(value);
    };
    $("ask-no").onclick = () => done(null);
    dialog.onclose = () => answer(null); // Escape
    form.onsubmit = (event) => {
      event.preventDefault();
      const grace = form.elements.grace.value;
      done({ reason: $("ask-reason").value.trim(), grace: grace === "" ? null : Number(grace) });
    };
    dialog.showModal();
    $("ask-reason").focus();
  });
}
