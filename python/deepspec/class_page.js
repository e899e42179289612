{
  const find = (selector) => document.querySelector(selector);
  const list = find("#entries");
  const entries = [...list.children];
  const shares = new Map(
    entries.map((entry) => [entry, new Map(entry.dataset.classes.split(" ").map((pair) => pair.split(":")))]),
  );
  const buttons = [...document.querySelectorAll("[data-class]")];
  // The class is in the page's address, so that a link, or the next page, keeps it.
  const inAddress = () => {
    const id = location.hash.match(/^#class-(\d+)$/)?.[1] ?? "";
    return buttons.some((button) => button.dataset.class === id) ? id : "";
  };
  let chosen = inAddress();

  const share = (entry) => shares.get(entry).get(chosen) ?? 0;
  const orders = {
    run: () => 0,
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true }),
    share: (a, b) => share(b) - share(a),
  };
  const update = () => {
    const text = find("#filter").value.toLowerCase();
    for (const entry of entries) {
      entry.hidden =
        !entry.dataset.name.toLowerCase().includes(text) || (chosen !== "" && !shares.get(entry).has(chosen));
    }
    for (const button of buttons) button.setAttribute("aria-pressed", button.dataset.class === chosen);
    list.append(...[...entries].sort(orders[find("#sort").value]));
    const shown = entries.filter((entry) => !entry.hidden).length;
    const title = buttons.find((button) => button.dataset.class === chosen)?.firstChild.data.trim();
    const amount = `${shown} of ${entries.length}`;
    find("#shown").value = title ? `${amount} with ${title}` : text && amount;
    find("#all").hidden = chosen === "";
    for (const link of document.querySelectorAll("nav a")) link.hash = chosen && `class-${chosen}`;
  };
  const choose = (id) => {
    chosen = id;
    history.replaceState(null, "", id ? `#class-${id}` : location.pathname + location.search);
    update();
  };

  find("main").addEventListener("click", (event) => {
    const button = event.target.closest("[data-class]");
    if (!button) return;
    const id = button.dataset.class;
    const before = button.getBoundingClientRect().top;
    choose(id === chosen ? "" : id);
    if (button.closest("#classes")) {
      if (chosen) find("#controls").scrollIntoView();
    } else {
      // What was clicked stays where it is, though others above it went.
      scrollBy({ top: button.getBoundingClientRect().top - before, behavior: "instant" });
    }
  });
  find("#all").addEventListener("click", () => choose(""));
  find("#filter").addEventListener("input", update);
  find("#sort").addEventListener("change", update);
  find("#controls").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => {
    chosen = inAddress() || chosen;
    update();
  });
  find("#controls").hidden = false;
  update();
}
