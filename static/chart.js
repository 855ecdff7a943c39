// Charts: the numbers of a bar below its chart, on hover and on keyboard focus, and times in the reader's own zone. A chart is
// one stop for Tab; the arrow keys, Home and End move between its bars, and Enter opens the list of one.
'use strict';
(() => {
  const two = (n) => String(n).padStart(2, '0');
  const minute = (at) => `${two(at.getHours())}:${two(at.getMinutes())}`;

  /** The title starts with the time range in UTC, up to the first colon that a space follows. */
  function toOwnClock(bar, step) {
    const from = new Date(bar.dataset.at);
    const until = new Date(from.getTime() + step * 1000);
    const day = step < 3600 ? '' : `${two(from.getMonth() + 1)}-${two(from.getDate())} `;
    const title = bar.querySelector('title');
    title.textContent = `${day}${minute(from)}–${minute(until)}${title.textContent.slice(title.textContent.indexOf(': '))}`;
  }

  for (const svg of document.querySelectorAll('.bars')) {
    const bars = [...svg.querySelectorAll('a')];
    const readout = svg.closest('.chart').querySelector('.readout');
    const usual = readout.textContent;
    if (!bars.length) continue;
    if (svg.dataset.step && document.documentElement.dataset.clock !== 'utc') {
      bars.forEach((bar) => toOwnClock(bar, svg.dataset.step));
    }
    svg.removeAttribute('aria-hidden');
    svg.setAttribute('role', 'group');
    bars.at(-1).setAttribute('tabindex', 0);

    const show = (bar) => (readout.textContent = bar ? bar.querySelector('title').textContent : usual);
    svg.addEventListener('mouseover', (event) => show(event.target.closest('a')));
    svg.addEventListener('mouseleave', () => show(null));
    svg.addEventListener('focusin', (event) => show(event.target.closest('a')));
    svg.addEventListener('focusout', () => show(null));
    svg.addEventListener('keydown', (event) => {
      const at = bars.indexOf(event.target.closest('a'));
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: bars.length - 1 }[event.key];
      if (to === undefined || at < 0) return;
      event.preventDefault();
      const next = bars[Math.max(0, Math.min(bars.length - 1, to))];
      bars.forEach((bar) => bar.setAttribute('tabindex', bar === next ? 0 : -1));
      next.focus();
    });
  }
})();
