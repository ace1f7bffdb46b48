// Small helpers for the elements of the page.

export const $ = (id) => document.getElementById(id);

/** Make an element with properties, attributes (names with a hyphen) and children. */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** Set a property only if it changes, so that nothing is drawn again for nothing. */
export function assign(target, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (target[name] !== value) target[name] = value;
  }
}

/** Tell users of a screen reader. */
export function announce(text) {
  $("status").textContent = text;
}

/** Show what went wrong above the list, until the user closes it. */
export function showProblem(error) {
  const text = errorText(error);
  if ([...$("problems").children].some((item) => item.dataset.text === text)) return;
  const close = element("button", { type: "button" }, "Close");
  const item = element("p", { className: "card problem", role: "alert", "data-text": text }, element("span", {}, text), close);
  close.addEventListener("click", () => item.remove());
  $("problems").append(item);
}

/** An error in words; browsers throw a TypeError with words of their own where a server does not answer. */
export function errorText(error) {
  return error instanceof TypeError ? "The server does not answer." : error.message;
}
