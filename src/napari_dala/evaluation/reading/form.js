"use strict";
// ASKED: { form, diagnoses, items: [{ item, tile, left, right }] }; pictures are data URIs. No word of methods here.
const LOOKS = [1, 2, 3, 4, 5].map((mark) => [mark, String(mark)]);
const QUESTIONS = [
  { name: "diagnosis", text: "What do you call it?", choices: ASKED.diagnoses.map((name) => [name, name]) },
  {
    name: "better",
    text: "Which map shows better what makes you call it so?",
    choices: [["left", "left"], ["equal", "equal"], ["right", "right"]],
  },
  { name: "left", text: "How well does the left map match it? (1 not at all, 5 fully)", choices: LOOKS },
  { name: "right", text: "How well does the right map match it? (1 not at all, 5 fully)", choices: LOOKS },
];
const FORMAT = "napari-dala filled form";
const CODE = /^[A-Za-z0-9-]{1,16}$/;
const byId = (id) => document.getElementById(id);
let reader = "", answers = {}, at = 0, marked = 0;

const stored = () => `napari-dala ${ASKED.form} ${reader}`;
const answerOf = (item) => (answers[item] = answers[item] || {});
const isOpen = (item) => QUESTIONS.some(({ name }) => (answers[item] || {})[name] === undefined);
const filled = () => ({ format: FORMAT, form: ASKED.form, reader, answers });

function say(text) {
  byId("message").textContent = text;
}

function keep() {
  try {
    localStorage.setItem(stored(), JSON.stringify(filled()));
  } catch {
    say("This browser keeps nothing: save as a file before you close it.");
  }
}

// Returns what is wrong with a saved file, or nothing.
function fault(value) {
  if (!value || value.format !== FORMAT) return "it is not a saved form";
  if (value.form !== ASKED.form) return `it is of form ${value.form}, this is form ${ASKED.form}`;
  if (!CODE.test(value.reader) || typeof value.answers !== "object") return "it is damaged";
  const known = new Set(ASKED.items.map(({ item }) => item));
  const sound = ([item, answer]) => known.has(item) && answer && QUESTIONS.every(({ name, choices }) =>
    answer[name] === undefined || choices.some(([choice]) => choice === answer[name]));
  return Object.entries(value.answers || {}).every(sound) ? "" : "it is damaged";
}

function begin(code, given) {
  reader = code;
  answers = given || {};
  try {
    const value = JSON.parse(localStorage.getItem(stored()) || "null");
    if (value && !fault(value)) answers = { ...value.answers, ...answers };
  } catch { /* no storage: begin with what was given */ }
  byId("start").hidden = true;
  byId("pair").hidden = false;
  goTo(Math.max(0, ASKED.items.findIndex(({ item }) => isOpen(item))));
  if (given) keep();
}

function goTo(place) {
  at = Math.min(Math.max(place, 0), ASKED.items.length - 1);
  const answer = answers[ASKED.items[at].item] || {};
  marked = Math.max(0, QUESTIONS.findIndex(({ name }) => answer[name] === undefined));
  say("");
  for (const part of ["tile", "left", "right"]) byId(part).src = ASKED.items[at][part];
  show();
}

function show() {
  const { item } = ASKED.items[at];
  const answer = answers[item] || {};
  const done = ASKED.items.filter((one) => !isOpen(one.item)).length;
  byId("where").textContent = `Pair ${at + 1} of ${ASKED.items.length}`;
  byId("count").textContent = `· ${done} answered · reader ${reader}`;
  byId("pair").classList.toggle("hidden-maps", answer.diagnosis === undefined);
  QUESTIONS.forEach(({ name }, number) => {
    const field = byId(`ask-${name}`);
    field.classList.toggle("marked", number === marked);
    field.disabled = number > 0 && answer.diagnosis === undefined;
    for (const input of field.querySelectorAll("input")) input.checked = String(answer[name]) === input.value;
  });
}

function give(number, place) {
  const { name, choices } = QUESTIONS[number];
  const item = ASKED.items[at].item;
  if (!choices[place] || (number > 0 && answerOf(item).diagnosis === undefined)) return;
  answerOf(item)[name] = choices[place][0];
  marked = Math.min(number + 1, QUESTIONS.length - 1);
  say(ASKED.items.some((one) => isOpen(one.item)) ? "" : "All pairs are answered. Save the file, and send it back.");
  keep();
  show();
}

function nextOpen() {
  const order = ASKED.items.map((_, step) => (at + 1 + step) % ASKED.items.length);
  const open = order.find((place) => isOpen(ASKED.items[place].item));
  if (open === undefined) say("All pairs are answered.");
  else goTo(open);
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(filled(), null, 1)], { type: "application/json" }));
  link.download = `reading-${ASKED.form}-${reader}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  say(`Saved as ${link.download}, in the folder of your downloads.`);
}

async function open(event) {
  const file = event.target.files[0];
  event.target.value = "";
  if (!file) return;
  let value = null;
  try {
    value = JSON.parse(await file.text());
  } catch { /* told below */ }
  const wrong = fault(value) || (reader && value.reader !== reader && `it is of reader ${value.reader}, not ${reader}`);
  if (wrong) say(`${file.name} cannot be opened: ${wrong}.`);
  else begin(value.reader, value.answers);
}

QUESTIONS.forEach(({ name, text, choices }, number) => {
  const field = document.createElement("fieldset");
  field.id = `ask-${name}`;
  field.append(Object.assign(document.createElement("legend"), { textContent: text }));
  choices.forEach(([value, shown], place) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name, value });
    input.addEventListener("click", () => give(number, place));
    label.append(input, shown === String(place + 1) ? shown : `${place + 1} ${shown}`);
    field.append(label);
  });
  byId("questions").append(field);
});
byId("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  begin(byId("reader").value);
});
byId("back").addEventListener("click", () => goTo(at - 1));
byId("next").addEventListener("click", () => goTo(at + 1));
byId("open-one").addEventListener("click", nextOpen);
byId("save").addEventListener("click", save);
for (const input of document.querySelectorAll(".open")) input.addEventListener("change", open);
document.addEventListener("keydown", (event) => {
  if (byId("pair").hidden || event.ctrlKey || event.altKey || event.metaKey) return;
  if (/^[1-9]$/.test(event.key)) give(marked, Number(event.key) - 1);
  else if (event.key === "Enter" && !event.target.matches("button, [type=file]")) goTo(at + 1);
  else if (event.key === "Backspace") goTo(at - 1);
  else return;
  event.preventDefault();
});
