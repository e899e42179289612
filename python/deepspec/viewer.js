"use strict";
{
  const find = (selector) => document.querySelector(selector);
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
  find("main").addEventListener("click", (event) => {
    const picture = event.target.closest("button")?.querySelector("img");
    if (!picture) return;
    const shown = [...picture.closest(".pictures").querySelectorAll("img")];
    pictures = shown.filter((other) => !other.closest("[hidden]"));
    show(pictures.indexOf(picture));
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
