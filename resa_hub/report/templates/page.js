"use strict";
// The sample browser. Texts of models reach the page through textContent only.
(async () => {
  const RIGHT = 1, FINISHED = 2, PAGE = 200, DEEPEST = 600;
  const by = (id) => document.getElementById(id);
  const packed = Uint8Array.from(atob(by("payload").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const evaluations = JSON.parse(await new Response(stream).text());
  let current, pairs = [], at = 0, shown = PAGE;

  const option = (select, value, text) => { const o = document.createElement("option"); o.value = value; o.textContent = text; select.append(o); };
  const words = { all: () => true, right: (a) => a[1] & RIGHT, wrong: (a) => !(a[1] & RIGHT), won: (a, b) => !(a[1] & RIGHT) && b[1] & RIGHT,
    lost: (a, b) => a[1] & RIGHT && !(b[1] & RIGHT), flipped: (a, b) => (a[1] ^ b[1]) & RIGHT, cut: (a, b) => !(a[1] & FINISHED) || !(b[1] & FINISHED) };

  function choose(number) {
    current = evaluations[number];
    for (const id of ["one", "two"]) { by(id).replaceChildren(); current.arms.forEach((name, arm) => option(by(id), arm, name)); }
    by("one").value = current.one; by("two").value = current.two;
    filter();
  }

  function filter() {
    const one = +by("one").value, two = +by("two").value, keep = words[by("show").value], sought = by("search").value.toLowerCase();
    pairs = [];
    current.rows.forEach(([question, answer, cells], problem) => cells[one].forEach((a, sample) => {
      const b = cells[two][sample];
      if (keep(a, b) && (!sought || [question, a[0], b[0]].some((text) => text.toLowerCase().includes(sought)))) pairs.push({ question, answer, a, b, problem, sample });
    }));
    at = 0; shown = PAGE; draw(); open(0, false);
    const all = current.rows.reduce((sum, row) => sum + row[2][0].length, 0);
    by("count").textContent = `${pairs.length.toLocaleString("en")} of ${all.toLocaleString("en")} pairs.`;
  }

  function mark(parent, flags) {
    const span = document.createElement("span"), right = flags & RIGHT;
    span.className = right ? "yes" : "no"; span.textContent = right ? "✓" : "✗"; span.title = right ? "right" : "wrong";
    span.setAttribute("role", "img"); span.setAttribute("aria-label", right ? "right" : "wrong");
    parent.append(span);
  }

  function draw() {
    const list = by("list");
    list.replaceChildren();
    pairs.slice(0, shown).forEach((pair, index) => {
      const item = document.createElement("li"), button = document.createElement("button"), label = document.createElement("bdi");
      button.type = "button"; button.tabIndex = index === at ? 0 : -1; button.dataset.index = index;
      mark(button, pair.a[1]); mark(button, pair.b[1]);
      label.className = "q"; label.textContent = `${pair.problem + 1}.${pair.sample + 1}  ${pair.question.slice(0, 120)}`;
      button.append(label); item.append(button); list.append(item);
    });
    if (pairs.length > shown) {
      const item = document.createElement("li"), more = document.createElement("button");
      more.type = "button"; more.textContent = `show ${Math.min(PAGE, pairs.length - shown)} more`;
      more.addEventListener("click", () => { const first = shown; shown += PAGE; draw(); open(first, true); });
      item.append(more); list.append(item);
    }
  }

  function open(index, focus) {
    const buttons = by("list").querySelectorAll("button[data-index]");
    if (!buttons.length) {
      for (const id of ["question", "text-one", "text-two", "title-one", "title-two"]) by(id).textContent = "";
      by("question").textContent = "No sample is like that.";
      return;
    }
    at = Math.max(0, Math.min(index, buttons.length - 1));
    buttons.forEach((button, number) => { button.tabIndex = number === at ? 0 : -1; if (number === at) button.setAttribute("aria-current", "true"); else button.removeAttribute("aria-current"); });
    const list = by("list"), chosen = buttons[at];
    if (focus) chosen.focus({ preventScroll: true });
    const top = chosen.offsetTop - list.offsetTop;
    if (top < list.scrollTop || top + chosen.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 2;
    const { question, answer, a, b } = pairs[at];
    by("question").textContent = `${question}\nexpected: ${answer}`;
    title("title-one", "one", a); title("title-two", "two", b);
    const [left, right] = by("diff").checked ? differences(a[0], b[0]) : [[[a[0], false]], [[b[0], false]]];
    text("text-one", left); text("text-two", right);
  }

  function title(id, select, [, flags]) {
    by(id).textContent = `${by(select).selectedOptions[0].textContent} `;
    mark(by(id), flags);
    if (!(flags & FINISHED)) by(id).append(" cut by the budget");
  }

  function text(id, parts) {
    by(id).replaceChildren(...parts.map(([part, differs]) => {
      if (!differs) return document.createTextNode(part);
      const marked = document.createElement("mark"); marked.textContent = part; return marked;
    }));
  }

  // Shortest edit script over words (Myers 1986, O(ND)); beyond DEEPEST edits only the common beginning and end are told apart.
  function differences(left, right) {
    const a = left.match(/\w+|\s+|[^\w\s]/gu) || [], b = right.match(/\w+|\s+|[^\w\s]/gu) || [];
    let start = 0, end = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start++;
    while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
    const [keepA, keepB] = common(a.slice(start, a.length - end), b.slice(start, b.length - end));
    const parts = (tokens, keep) => {
      const found = [];
      tokens.forEach((token, i) => {
        const differs = i >= start && i < tokens.length - end && !keep.has(i - start), last = found[found.length - 1];
        if (last && last[1] === differs) last[0] += token; else found.push([token, differs]);
      });
      return found;
    };
    return [parts(a, keepA), parts(b, keepB)];
  }

  function common(a, b) {
    const keepA = new Set(), keepB = new Set(), trace = [], size = a.length + b.length;
    let v = new Map([[1, 0]]);
    for (let d = 0; d <= Math.min(size, DEEPEST); d++) {
      trace.push(new Map(v));
      for (let k = -d; k <= d; k += 2) {
        let x = k === -d || (k !== d && v.get(k - 1) < v.get(k + 1)) ? v.get(k + 1) : v.get(k - 1) + 1;
        while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
        v.set(k, x);
        if (x >= a.length && x - k >= b.length) return back(d);
      }
    }
    return [keepA, keepB];

    function back(deepest) {
      let x = a.length, y = b.length;
      for (let d = deepest; d >= 0; d--) {
        const before = trace[d], k = x - y;
        const from = k === -d || (k !== d && before.get(k - 1) < before.get(k + 1)) ? k + 1 : k - 1;
        const fromX = d === 0 ? 0 : before.get(from), fromY = d === 0 ? 0 : fromX - from;
        while (x > fromX && y > fromY && x > 0 && y > 0 && a[x - 1] === b[y - 1]) { x--; y--; keepA.add(x); keepB.add(y); }
        x = fromX; y = fromY;
      }
      return [keepA, keepB];
    }
  }

  evaluations.forEach((evaluation, number) => option(by("evaluation"), number, evaluation.title));
  by("which").hidden = evaluations.length < 2;
  by("evaluation").addEventListener("change", (event) => choose(+event.target.value));
  for (const id of ["one", "two", "show"]) by(id).addEventListener("change", filter);
  by("search").addEventListener("input", filter);
  by("diff").addEventListener("change", () => open(at, false));
  by("back").addEventListener("click", () => open(at - 1, false));
  by("next").addEventListener("click", () => open(at + 1, false));
  by("list").addEventListener("click", (event) => { const button = event.target.closest("button[data-index]"); if (button) open(+button.dataset.index, true); });
  by("list").addEventListener("keydown", (event) => {
    const move = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: shown, PageDown: at + 10, PageUp: at - 10 }[event.key];
    if (move !== undefined) { event.preventDefault(); open(move, true); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) { event.preventDefault(); by("search").focus(); }
  });
  by("reader").hidden = false;
  choose(0);
})().catch((error) => { const note = document.createElement("p"); note.textContent = `The samples cannot be shown: ${error.message}`; document.getElementById("samples").append(note); });
