/** What can be done with a message: reactions that toggle, and a menu that opens by pointer, touch and keyboard. */

import { element } from "../dom.js";

const QUICK = ["👍", "❤️", "😂", "🎉", "😮", "🙏"];

/** `actions` are `{react(message, emoji, isOn), reply(message), edit(message), remove(message)}`. */
export function actionsMenu(message, { isMine, mayDelete }, actions) {
  const choose = (act) => (event) => {
    event.currentTarget.closest("details").open = false;
    act(message);
  };
  const mine = new Set(message.reactions?.filter((one) => one.mine).map((one) => one.emoji));
  const quick = QUICK.map((emoji) =>
    element(
      "button",
      {
        type: "button",
        class: "emoji",
        "aria-label": `React with ${emoji}`,
        "aria-pressed": String(mine.has(emoji)),
        onclick: choose(() => actions.react(message, emoji, !mine.has(emoji))),
      },
      emoji,
    ),
  );
  const menu = element(
    "details",
    { class: "actions" },
    element("summary", { "aria-label": "What to do with this message", title: "Actions" }, "⋯"),
    element(
      "div",
      { class: "menu" },
      element("div", { class: "quick" }, ...quick),
      element("button", { type: "button", class: "plain", onclick: choose(actions.reply) }, "Reply"),
      isMine && element("button", { type: "button", class: "plain", onclick: choose(actions.edit) }, "Edit"),
      (isMine || mayDelete) && deleteButton(message, actions),
    ),
  );
  menu.addEventListener("toggle", () => {
    if (menu.open) menu.querySelector(".menu").scrollIntoView({ block: "nearest" });
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    event.stopPropagation();
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  // Focus that goes elsewhere closes it, by Tab or by a click.
  menu.addEventListener("focusout", ({ relatedTarget }) => {
    if (relatedTarget && !menu.contains(relatedTarget)) menu.open = false;
  });
  return menu;
}

/** It asks once: the second press deletes. */
function deleteButton(message, actions) {
  let isSure = false;
  const onclick = () => {
    if (isSure) {
      actions.remove(message);
      return;
    }
    isSure = true;
    button.textContent = "Delete for everybody?";
  };
  const button = element("button", { type: "button", class: "plain danger", onclick }, "Delete");
  return button;
}

export function reactionChips(message, actions) {
  const chips = message.reactions.map(({ emoji, count, mine }) =>
    element(
      "li",
      {},
      element(
        "button",
        {
          type: "button",
          class: "reaction",
          "aria-pressed": String(mine),
          "aria-label": `${emoji} ${count}`,
          onclick: () => actions.react(message, emoji, !mine),
        },
        `${emoji} ${count}`,
      ),
    ),
  );
  return element("ul", { class: "reactions", "aria-label": "Reactions" }, ...chips);
}
