// The live tail: new rows appear at the top while the page is open. Without this script, the page has a refresh link.
//
//   attempt     A table row, rendered and escaped by the server.
//   left-out    The number of skipped rows; "more" if there were others that were not counted.
//
// Its texts are in #tail-words, where the server translates them.
'use strict';
(() => {
  const MOST = 200;
  const SAY_EVERY = 10000;
  const element = (id) => document.getElementById(id);
  const table = document.querySelector('table[data-events]');
  const [rows, empty, pause, state, said] = ['tail-rows', 'tail-empty', 'tail-pause', 'tail-state', 'tail-said'].map(element);
  if (!table || !window.EventSource) return;

  const words = document.getElementById('tail-words').content.querySelectorAll('[data-word]');
  const word = Object.fromEntries([...words].map((one) => [one.dataset.word, one.textContent]));
  const parser = new DOMParser();
  let waiting = [];
  let paused = false;
  let connection = word.connecting;
  let leftOut = 0;
  let more = false;
  let came = 0;

  const fill = (text, value) => text.replace('{}', value);
  const attempts = (n) => (n === 1 ? word.attempt : fill(word.attempts, n.toLocaleString('en')));
  function tell() {
    const parts = [paused ? word.paused : connection];
    if (paused && waiting.length) parts.push(fill(waiting.length === MOST ? word.many : word.waiting, attempts(waiting.length)));
    if (leftOut || more) parts.push(fill(more ? word.more : word.left, leftOut.toLocaleString('en')));
    state.textContent = parts.join(' · ');
  }

  function rowOf(html) {
    return parser.parseFromString(`<table><tbody>${html}</tbody></table>`, 'text/html').querySelector('tr[data-id]');
  }

  function show(row) {
    // Ordered by id, which starts with the attempt's start time: a slow attempt arrives after later ones.
    const id = row.dataset.id;
    const next = [...rows.children].find((one) => one.dataset.id <= id);
    if (next?.dataset.id === id) return;
    rows.insertBefore(document.importNode(row, true), next ?? null);
    while (rows.children.length > MOST) rows.lastElementChild.remove();
    table.hidden = false;
    empty.hidden = true;
    came += 1;
  }

  const source = new EventSource(table.dataset.events);
  source.addEventListener('open', () => {
    connection = word.live;
    tell();
  });
  source.addEventListener('error', () => {
    connection = source.readyState === EventSource.CLOSED ? word.closed : word.reconnecting;
    tell();
  });
  source.addEventListener('attempt', (event) => {
    const row = rowOf(event.data);
    if (!row) return;
    if (!paused) return show(row);
    waiting.push(row);
    waiting = waiting.slice(-MOST);
    tell();
  });
  source.addEventListener('left-out', (event) => {
    leftOut += parseInt(event.data, 10) || 0;
    if (event.data.endsWith('more')) more = true;
    tell();
  });

  pause.hidden = false;
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    if (!paused) {
      waiting.forEach(show);
      waiting = [];
    }
    tell();
  });
  // Not for every row: a screen reader would announce nothing else.
  setInterval(() => {
    if (came) said.textContent = fill(word.received, attempts(came));
    came = 0;
  }, SAY_EVERY);
  addEventListener('pagehide', () => source.close());
  tell();
})();
