"use strict";
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

  const viewer = find("#viewer");
  let pictures = [];
  let current = 0;
  const show = (index) => {
    if (!pictures[index]) return;
    current = index;
    const picture = pictures[index];
    viewer.querySelector("img").src = picture.src;
    viewer.querySelector("img").alt = picture.alt;
    viewer.querySelector("figcaption").textContent = picture.alt;
    find("#previous").disabled = index === 0;
    find("#next").disabled = index === pictures.length - 1;
  };
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    pictures = [...list.querySelectorAll("li:not([hidden]) img")];
    show(pictures.indexOf(button.querySelector("img")));
    viewer.showModal();
  });
  find("#previous").addEventListener("click", () => show(current - 1));
  find("#next").addEventListener("click", () => show(current + 1));
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(current - 1);
    if (event.key === "ArrowRight") show(current + 1);
  });
  viewer.querySelector("figure").addEventListener("click", () => viewer.close());
}
