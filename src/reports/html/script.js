// Search, folding and zoom. The page says everything without it.
'use strict';
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const search = document.getElementById('search');
const told = document.getElementById('told');

// Opens whatever holds the element, so that a link into a folded tree leads somewhere.
const reveal = (element) => {
  for (let above = element; above; above = above.parentElement) {
    if (above.tagName === 'DETAILS') above.open = true;
    above.hidden = false;
  }
};

const follow = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  reveal(target);
  target.scrollIntoView({ block: 'center' });
};

const filter = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (element) => words.every((word) => element.dataset.text.includes(word));
  let count = 0;
  for (const element of all('[data-text]')) {
    const isHit = words.length > 0 && fits(element);
    element.classList.toggle('hit', isHit && element.classList.contains('node'));
    if (!element.classList.contains('node')) element.hidden = words.length > 0 && !isHit;
    if (isHit) {
      count += 1;
      // Also out of a session or a list that is folded.
      reveal(element);
    }
  }
  told.textContent = words.length ? `${count} found` : '';
};

const fold = (isOpen) => {
  for (const part of all('.tree details')) part.open = isOpen;
};

// The line of time: the buttons halve and double the stretch that is shown, arrows move it.
const chart = document.getElementById('chart');
if (chart) {
  const whole = Number(chart.dataset.width);
  let from = 0;
  let width = whole;
  const show = () => {
    from = Math.min(Math.max(0, from), whole - width);
    chart.setAttribute('viewBox', `${from} 0 ${width} ${chart.dataset.height}`);
    chart.setAttribute('preserveAspectRatio', 'none');
  };
  const zoom = (factor) => {
    const middle = from + width / 2;
    width = Math.min(whole, Math.max(whole / 64, width * factor));
    from = middle - width / 2;
    show();
  };
  document.getElementById('closer').addEventListener('click', () => zoom(0.5));
  document.getElementById('wider').addEventListener('click', () => zoom(2));
  chart.addEventListener('keydown', (event) => {
    const acts = {
      ArrowLeft: () => { from -= width / 4; show(); },
      ArrowRight: () => { from += width / 4; show(); },
      '+': () => zoom(0.5),
      '-': () => zoom(2),
    };
    if (acts[event.key]) {
      acts[event.key]();
      event.preventDefault();
    }
  });
}

search.addEventListener('input', filter);
document.getElementById('open').addEventListener('click', () => fold(true));
document.getElementById('close').addEventListener('click', () => fold(false));
window.addEventListener('hashchange', follow);
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && event.target !== search) {
    search.focus();
    event.preventDefault();
  }
  if (event.key === 'Escape' && event.target === search) {
    search.value = '';
    filter();
  }
});
follow();
