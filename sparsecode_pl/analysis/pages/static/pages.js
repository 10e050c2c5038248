// The table of atoms, and the keys. It reads what stands in the page, and loads nothing.
"use strict";

(() => {
  const STEP = 200; // rows that are drawn at a time: a table of 65,536 would freeze the browser

  const byId = (id) => document.getElementById(id);
  const typing = (target) => target.matches("input:not([type=checkbox]), select, textarea");
  const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;

  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    made.textContent = text; // never as HTML
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  // ---- the page of an atom

  function currentArticle() {
    const articles = [...document.querySelectorAll("article.atom")];
    const above = articles.filter((article) => article.getBoundingClientRect().top < 80);
    return above.at(-1) ?? articles[0];
  }

  function startAtom() {
    const names = globalThis.atomNames ?? [];
    for (const link of document.querySelectorAll("a[data-atom]")) {
      const name = names[link.dataset.atom];
      if (name) link.after(" ", element("span", name, { dir: "auto", class: "name" }));
      if (name === null) link.after(" ", element("span", "never active", { class: "n" }));
    }
    document.addEventListener("keydown", (event) => {
      if (!plain(event) || typing(event.target)) return;
      if (event.key === "/") {
        event.preventDefault();
        location.href = "../index.html#search";
      }
      const wanted = { j: "next", ArrowRight: "next", k: "prev", ArrowLeft: "prev" }[event.key];
      const link = wanted && currentArticle().querySelector(`a[rel=${wanted}]`);
      if (link) {
        event.preventDefault();
        link.click();
      }
    });
  }

  // ---- the table

  const HEADS = [
    ["index", "atom"],
    ["strongest", "strongest on"],
    ["frequency", "frequency"],
    ["mean", "mean"],
    ["largest", "largest"],
    ["token", "token"],
    ["purity", "purity"],
    ["stability", "stability"],
  ];

  function short(value) {
    if (value === null) return "–";
    if (value === 0) return "0";
    return Math.abs(value) >= 1000 ? value.toFixed(0) : value.toPrecision(3);
  }

  function percent(share) {
    const value = 100 * share;
    if (value === 0) return "0 %";
    const exponent = Math.floor(Math.log10(value));
    return `${value.toFixed(value >= 10 ? 1 : Math.max(1, 1 - exponent))} %`;
  }

  function bounds(low, high) {
    if (low === null) return "–";
    const [first, last] = [low.toFixed(2), (high ?? low).toFixed(2)];
    return first === last ? first : `${first} to ${last}`;
  }

  function startIndex(facts, lines) {
    const column = Object.fromEntries(facts.columns.map((name, place) => [name, place]));
    const atoms = lines.map((line) => ({
      line,
      dead: line[column.frequency] === 0,
      text: `${line[column.token] ?? ""} ${line[column.strongest].join(" ")} ${line[column.words]}`.toLowerCase(),
    }));
    const known = (name) => atoms.some((atom) => atom.line[column[name]] !== null && atom.line[column[name]].length !== 0);
    const heads = HEADS.filter(([name]) => known(name));
    const [search, sort, reverse, hide] = ["search", "sort", "reverse", "hide"].map(byId);
    const table = byId("table");
    const body = table.tBodies[0];
    let found = [];
    let shown = 0;

    function place(index) {
      const first = String(index - (index % facts.size)).padStart(facts.width, "0");
      return `atoms/${first}.html${facts.size === 1 ? "" : `#a${index}`}`;
    }

    function cell(atom, name) {
      const value = atom.line[column[name]];
      if (name === "strongest") {
        const made = element("td", "", { class: "strongest" });
        value.forEach((word, number) => made.append(number ? " " : "", element("span", word, { dir: "auto" })));
        if (atom.dead) made.append("never active");
        return made;
      }
      const texts = {
        frequency: percent,
        token: (token) => token ?? "–",
        stability: (cosine) => cosine?.toFixed(2) ?? "–",
        purity: (low) => bounds(low, atom.line[column.purity_bound]),
      };
      const empty = atom.dead && name !== "stability";
      const made = element("td", empty ? "–" : (texts[name] ?? short)(value), name === "token" ? { dir: "auto" } : {});
      made.dataset.name = heads.find(([head]) => head === name)[1];
      return made;
    }

    function row(atom) {
      const index = atom.line[column.index];
      const made = element("tr", "", atom.dead ? { class: "dead" } : {});
      for (const [name] of heads) {
        if (name === "index") {
          const head = element("th", "", { scope: "row" });
          head.append(element("a", index, { href: place(index) }));
          made.append(head);
        } else made.append(cell(atom, name));
      }
      return made;
    }

    function more() {
      const next = found.slice(shown, shown + STEP);
      body.append(...next.map(row));
      shown += next.length;
      byId("more").hidden = shown >= found.length;
      const which = found.length === atoms.length ? "atoms" : `of ${atoms.length.toLocaleString("en")} atoms`;
      byId("status").textContent = found.length === 0
        ? "No atom matches the search."
        : `${found.length.toLocaleString("en")} ${which}${shown < found.length ? `, the first ${shown.toLocaleString("en")} shown` : ""}`;
    }

    function ordered(list) {
      const by = column[sort.value];
      const sign = reverse.checked ? 1 : -1;
      const missing = (atom) => atom.line[by] === null || (atom.dead && sort.value !== "index");
      return list.sort((a, b) => {
        const [first, second] = [missing(a), missing(b)]; // what has no value comes last, either way
        const value = first || second ? first - second : sign * (a.line[by] - b.line[by]);
        return value || a.line[column.index] - b.line[column.index];
      });
    }

    function update() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const number = words.length === 1 && /^#?\d+$/.test(words[0]) ? Number(words[0].replace("#", "")) : -1;
      const is = (atom) => atom.line[column.index] === number;
      const fits = (atom) => is(atom) || words.every((word) => atom.text.includes(word));
      found = ordered(atoms.filter((atom) => fits(atom) && !(hide?.checked && atom.dead)));
      if (number >= 0) found = [...found.filter(is), ...found.filter((atom) => !is(atom))];
      for (const head of table.tHead.rows[0].cells) {
        const sorted = head.dataset.column === sort.value;
        if (sorted) head.setAttribute("aria-sort", reverse.checked ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      }
      body.replaceChildren();
      shown = 0;
      more();
    }

    function sortBy(name) {
      if (sort.value === name) reverse.checked = !reverse.checked;
      else {
        sort.value = name;
        reverse.checked = name === "index";
      }
      update();
    }

    function step(by) {
      const links = [...body.querySelectorAll("th a")];
      const now = links.indexOf(document.activeElement);
      if (now === links.length - 1 && by > 0 && shown < found.length) {
        more();
        step(by);
      } else if (now === 0 && by < 0) search.focus();
      else if (now >= 0 || by > 0) links[Math.min(now + by, links.length - 1)]?.focus();
    }

    for (const [name, text] of heads) {
      const sortable = name !== "strongest" && name !== "token";
      const head = element("th", sortable ? "" : text, { scope: "col", "data-column": name });
      if (sortable) {
        const button = element("button", text, { type: "button" });
        button.addEventListener("click", () => sortBy(name));
        head.append(button);
      }
      table.tHead.rows[0].append(head);
    }
    for (const option of [...sort.options]) if (!known(option.value)) option.remove();

    let waiting = null;
    const updateNow = () => {
      if (waiting === null) return;
      clearTimeout(waiting);
      waiting = null;
      update();
    };
    search.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(updateNow, atoms.length > 5000 ? 120 : 0);
    });
    sort.addEventListener("change", () => {
      reverse.checked = sort.value === "index";
      update();
    });
    for (const box of [reverse, hide]) box?.addEventListener("change", update);
    byId("controls").addEventListener("submit", (event) => {
      event.preventDefault();
      updateNow();
      body.querySelector("th a")?.click();
    });
    byId("more").addEventListener("click", () => {
      const before = shown;
      more();
      body.rows[before]?.querySelector("a").focus();
    });
    document.addEventListener("keydown", (event) => {
      if (!plain(event)) return;
      const inTable = body.contains(event.target);
      if (event.key === "/" && !typing(event.target)) {
        event.preventDefault();
        search.focus();
        search.select();
      } else if (event.target === search ? event.key === "ArrowDown" : inTable && event.key.startsWith("Arrow")) {
        if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
        event.preventDefault();
        updateNow();
        step(event.key === "ArrowDown" ? 1 : -1);
      } else if (!typing(event.target) && (event.key === "j" || event.key === "k")) step(event.key === "j" ? 1 : -1);
    });

    byId("controls").hidden = table.hidden = false;
    update();
    if (location.hash === "#search") search.focus();
  }

  if (byId("lines")) startIndex(JSON.parse(byId("facts").textContent), JSON.parse(byId("lines").textContent));
  else startAtom();
})();
