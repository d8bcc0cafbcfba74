"use strict";
// The page is complete without this: it makes charts live, tables sortable and examples searchable.

const read = (id) => JSON.parse(document.getElementById(id).textContent);

async function makeLive(plot, spec) {
  const live = document.createElement("div");
  plot.append(live);
  try {
    // "ast" interprets expressions: the page's policy forbids to evaluate text as code.
    await vegaEmbed(live, spec, {
      ast: true, renderer: "svg", actions: false, tooltip: { disableDefaultStyle: true },
    });
    plot.querySelector(":scope > svg").remove();
    plot.removeAttribute("role"); // its marks can be hovered now
    plot.dataset.live = "yes";
  } catch (error) {
    live.remove(); // the picture stays
    console.error(error);
  }
}

async function charts() {
  const specs = read("charts");
  for (const plot of document.querySelectorAll(".plot")) {
    await makeLive(plot, specs[plot.dataset.chart]);
  }
  document.body.dataset.charts = "live";
}

const compare = (one, other) =>
  isNaN(one) || isNaN(other) ? one.localeCompare(other, "en") : one - other;

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value ?? cell.textContent.trim();
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows].sort(
        (one, other) => compare(key(one, column), key(other, column)));
      table.tBodies[0].append(...(down ? rows.reverse() : rows));
    });
  });
}

function filters(form) {
  const items = [...document.querySelectorAll(".examples li")];
  const texts = items.map((item) => item.textContent.toLowerCase());
  const show = () => {
    const wanted = (name) => form.elements[name]?.value ?? "";
    const text = wanted("text").trim().toLowerCase();
    let shown = 0;
    items.forEach((item, place) => {
      const fits = (!wanted("shift") || item.dataset.shift === wanted("shift")) &&
        (!wanted("data") || item.dataset.data === wanted("data")) && texts[place].includes(text);
      item.hidden = !fits;
      shown += fits;
    });
    document.getElementById("shown").textContent = shown;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show(); // a browser may have kept what was entered
}

function paint(target, example, { yes, no, pull }, words) {
  target.replaceChildren(...example.tokens.map((text, place) => {
    const token = document.createElement("span");
    token.textContent = text.replaceAll("\n", "\u21b5\n");
    if (place === example.yes) token.className = "word yes";
    if (place === example.no) token.className = "word no";
    const row = place - example.first_row;
    if (row >= 0 && row < pull.length) {
      token.title = `to ${words[0]} ${yes[row]}, to ${words[1]} ${no[row]}`;
      token.style.setProperty("--pull", Math.abs(pull[row]));
      token.dataset.toward = pull[row] > 0 ? "no" : "yes";
    }
    return token;
  }));
}

function viewer(form) {
  const { words, examples } = read("attention-data");
  const said = { positive: words[0], negative: words[1] };
  const show = () => {
    const example = examples[form.elements.example.value];
    const head = example.attention[form.elements.head.value];
    const strong = document.createElement("strong");
    strong.textContent = example.question;
    document.getElementById("viewer-question").replaceChildren(strong,
      ` Right: ${example.label ? words[0] : words[1]}. Layer ${head.layer}, head ${head.head}.`);
    ["before", "after"].forEach((side) => {
      const now = example[side];
      document.getElementById(`caption-${side}`).textContent =
        `NAS ${head[`nas_${side}`].toFixed(2)}; it says ${said[now.verdict] ?? "neither"} ` +
        `(${words[0]} ${now.p_yes.toFixed(2)}, ${words[1]} ${now.p_no.toFixed(2)}).`;
      paint(document.getElementById(`tokens-${side}`), example, head[side], words);
    });
    document.getElementById("viewer-weights").textContent = "";
  };
  form.addEventListener("input", show);
  form.hidden = false;
  // A finger cannot hover: a tap on a word says what its title says.
  document.getElementById("attention").addEventListener("click", (event) => {
    if (event.target.title) {
      document.getElementById("viewer-weights").textContent =
        `"${event.target.textContent.trim()}": ${event.target.title}.`;
    }
  });
  show();
}

document.querySelectorAll("table.sortable").forEach(sortable);
const filterForm = document.getElementById("filters");
if (filterForm) filters(filterForm);
const viewerForm = document.getElementById("viewer");
if (viewerForm) viewer(viewerForm);
window.addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((part) => { part.open = true; });
});
charts();
