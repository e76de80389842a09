// Comfort only: every page is whole without this. Times in the reader's zone, figures that move by themselves.

const FORMAT = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit",
  timeZoneName: "short",
});

function localTimes(root) {
  for (const each of root.querySelectorAll("time[datetime]")) {
    const at = new Date(each.getAttribute("datetime"));
    if (!Number.isNaN(at.getTime())) each.textContent = FORMAT.format(at);
  }
}

// A page asks again for itself and takes over only the parts that differ, so nothing flickers and no place is lost.
// It waits while somebody types, chooses text, has unfolded something, or looks elsewhere.
const EVERY = 5000;

function busy() {
  const active = document.activeElement;
  const typing = active && active.closest("main form, main textarea, main input, main select");
  const chosen = document.getSelection();
  const ticked = document.querySelector("main input[type=checkbox]:checked");
  return document.hidden || typing || ticked || (chosen && !chosen.isCollapsed);
}

async function refresh() {
  if (busy()) return;
  let answer;
  try {
    answer = await fetch(location.href, { headers: { "x-refresh": "1" }, credentials: "same-origin", redirect: "manual" });
  } catch {
    return;
  }
  if (!answer.ok || answer.status !== 200) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (busy()) return;
  localTimes(fresh);
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const here = document.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
    if (here && here.innerHTML !== part.innerHTML && !here.contains(document.activeElement)) {
      const open = new Set([...here.querySelectorAll("details[open] > summary")].map((each) => each.textContent));
      const left = here.querySelector(".wide")?.scrollLeft ?? 0;
      here.replaceChildren(...part.childNodes);
      for (const each of here.querySelectorAll("details > summary")) if (open.has(each.textContent)) each.parentElement.open = true;
      const wide = here.querySelector(".wide");
      if (wide) wide.scrollLeft = left;
    }
  }
}

localTimes(document);
document.querySelector(".menu [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
if (document.body.hasAttribute("data-refreshes")) setInterval(refresh, EVERY);
for (const box of document.querySelectorAll("input[data-ticks]")) {
  box.addEventListener("change", () => {
    for (const each of document.querySelectorAll(`input[name="${CSS.escape(box.dataset.ticks)}"]`)) each.checked = box.checked;
  });
}
