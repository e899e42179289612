{
  const find = (selector) => document.querySelector(selector);
  const list = find("#entries");
  const entries = [...list.children];

  const byName = (a, b) => a.dataset.name.localeCompare(b.dataset.name, "en", { numeric: true });
  const byScore = (sign) => (a, b) => {
    const [x, y] = [a.dataset.score, b.dataset.score];
    // Entries without a score come last in both directions.
    return (x === undefined) - (y === undefined) || sign * (x - y) || 0;
  };
  const orders = { run: () => 0, name: byName, low: byScore(1), high: byScore(-1) };

  if (!entries.some((entry) => entry.dataset.score)) {
    for (const order of ["low", "high"]) find(`#sort [value=${order}]`).remove();
  }
  const sort = () => list.append(...[...entries].sort(orders[find("#sort").value]));
  const filter = () => {
    const text = find("#filter").value.toLowerCase();
    for (const entry of entries) entry.hidden = !entry.dataset.name.toLowerCase().includes(text);
    const shown = entries.filter((entry) => !entry.hidden).length;
    find("#shown").value = text ? `${shown} of ${entries.length}` : "";
  };
  find("#sort").addEventListener("change", sort);
  find("#filter").addEventListener("input", filter);
  find("#controls").addEventListener("submit", (event) => event.preventDefault());
  find("#controls").hidden = false;
  // A browser keeps what was chosen when the page is loaded again.
  sort();
  filter();
}
