// Progressive enhancement: every page works without this script. Hooks:
//
//   <time datetime title>      Relative time, kept up to date. With data-as: local time as `clock` (14:32:10, with the day
//                              unless it is today), `exact`, `minute`, `day` or `moment` (11-22 14:32). The title stays in UTC.
//   [data-at] [data-as]        The same for elements other than <time>, such as chart labels.
//   [data-copies="#id"]        A button that copies that element's text; hidden without this script.
//   [data-zone]                Shows the time zone.
//   .id, pre.code, [data-copy] Gets a copy button; data-copy="#id" copies that element's text.
//   .rows tbody tr, .card, .steps > li   `j` and `k` move between them, to .c-main a, or else to the first link or button.
//   form[data-key="r"]         `r` submits the form of the focused row, or the only one, after confirmation.
//   form[data-confirm="text"]  Asks for confirmation before every submission.
//   form[data-enter]           Submits itself inside an iframe.
//   [data-filter]              Target of `/`; otherwise the first search field or the first chip.
//   .top nav a                 `g` and the first letter of its name.
//   #words [data-word]         The texts of this script, which the server translates.
//   meta[name=now]             Rendering time, to correct for a wrong browser clock.
//
// Outside text is always set as text, never as HTML.
'use strict';
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  // The words of this script, in the language of the page.
  const word = Object.fromEntries(all('[data-word]', document.getElementById('words').content).map((one) => [one.dataset.word, one.textContent]));
  const make = (name, more = {}, ...inside) => {
    const element = Object.assign(document.createElement(name), more);
    element.append(...inside);
    return element;
  };

  // --- Times

  const made = Date.parse(document.querySelector('meta[name=now]')?.content);
  const wrong = made ? Date.now() - made : 0;
  const coming = new WeakSet();
  const two = (n) => String(n).padStart(2, '0');

  const roughly = (s) =>
    s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 172800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86400)} d`;

  function keepUp() {
    const now = Date.now() - wrong;
    for (const time of all('time:not([data-as])')) {
      const at = Date.parse(time.dateTime);
      const s = Math.floor(Math.abs(now - at) / 1000);
      if (at > now) coming.add(time);
      const past = coming.has(time) ? word.now : s ? word.ago.replace('{}', roughly(s)) : word.just;
      const text = at > now ? word.ahead.replace('{}', roughly(s || 1)) : past;
      if (at && time.textContent !== text) time.textContent = text;
    }
  }

  function toOwnClock(element) {
    const at = new Date(element.dateTime ?? element.dataset.at);
    const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    const minute = `${two(at.getHours())}:${two(at.getMinutes())}`;
    const second = `${minute}:${two(at.getSeconds())}`;
    const today = at.toDateString() === new Date(Date.now() - wrong).toDateString();
    const text = { clock: today ? second : `${day} ${second}`, exact: `${at.getFullYear()}-${day} ${second}`, minute, day, moment: `${day} ${minute}` };
    element.textContent = text[element.dataset.as];
  }

  // --- Copying

  const said = make('p', { className: 'unseen' });
  said.setAttribute('role', 'status');

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // The clipboard API needs HTTPS.
      const field = document.body.appendChild(make('textarea', { value: text, className: 'unseen' }));
      field.select();
      document.execCommand('copy');
      field.remove();
    }
  }

  function addCopyButton(element) {
    const block = element.matches('pre');
    if (element.parentElement.matches('.copies') || element.nextElementSibling?.matches('.copy')) return;
    const of = element.dataset.copy ? document.querySelector(element.dataset.copy) ?? element : element;
    const button = make('button', { type: 'button', className: 'copy', textContent: word.copy });
    if (!block) button.setAttribute('aria-label', `${word.copy} ${of.textContent}`);
    button.addEventListener('click', async () => {
      await copy(of.textContent);
      button.textContent = said.textContent = word.copied;
      button.focus();
      setTimeout(() => (button.textContent = word.copy, said.textContent = ''), 1500);
    });
    if (!block) return element.after(button);
    const frame = make('div', { className: 'copies' });
    element.replaceWith(frame);
    frame.append(element, button);
  }

  // --- Confirmation

  function open(dialog) {
    document.body.append(dialog);
    dialog.addEventListener('close', () => dialog.remove());
    dialog.showModal();
  }

  const agreed = new WeakSet();

  function ask(form, button, words) {
    const name = button?.textContent.trim() || word.go;
    const row = form.closest('.rows tr, .card');
    const what = ['.c-main a', '.url'].map((part) => row?.querySelector(part)?.textContent).filter(Boolean);
    const dialog = make('dialog', {}, make('form', { method: 'dialog' },
      make('p', { textContent: words || `${name}: ${what.join(` ${word.to} `) || document.querySelector('h1').textContent}?` }),
      make('button', { className: 'primary', value: 'yes', textContent: name }), ' ',
      make('button', { textContent: word.cancel })));
    dialog.setAttribute('aria-label', name);
    dialog.addEventListener('close', () => {
      if (dialog.returnValue !== 'yes') return button?.focus();
      agreed.add(form);
      form.requestSubmit(button);
    });
    open(dialog);
  }

  document.addEventListener('submit', (event) => {
    const form = event.target;
    if (!form.dataset.confirm || agreed.delete(form)) return;
    event.preventDefault();
    ask(form, event.submitter, form.dataset.confirm);
  }, true);

  // --- Keyboard shortcuts

  const ROW = '.rows tbody tr, .card, .steps > li';
  const here = () => document.activeElement.closest(ROW);

  function step(by) {
    const rows = all(ROW).filter((row) => row.offsetParent);
    const row = rows[Math.max(0, Math.min(rows.length - 1, here() ? rows.indexOf(here()) + by : 0))];
    if (!row) return;
    const stop = row.querySelector('.c-main a') ?? row.querySelector('a[href], button:not(.copy)') ?? row;
    if (stop === row) row.tabIndex = -1;
    stop.focus();
    row.scrollIntoView({ block: 'nearest' });
  }

  function resend() {
    const forms = all('form[data-key="r"]', here() ?? document);
    if (forms.length === 1) ask(forms[0], forms[0].querySelector('[type=submit]'), forms[0].dataset.confirm);
  }

  const page = (letter) => all('.top nav a').find((link) => link.textContent.trim().toLowerCase().startsWith(letter));

  function showKeys() {
    const pages = all('.top nav a').filter((link) => page(link.textContent.trim()[0].toLowerCase()) === link);
    const keys = [['/', word.filter], ['j', word.next], ['k', word.previous], ['Enter', word.open], ['r', word.resend],
      ...pages.map((link) => [`g ${link.textContent.trim()[0].toLowerCase()}`, link.textContent.trim()]), ['?', word.list]];
    const list = make('dl', {}, ...keys.flatMap(([key, what]) => [make('dt', {}, make('kbd', { textContent: key })), make('dd', { textContent: what })]));
    const dialog = make('dialog', { className: 'keys' }, make('h2', { textContent: word.keys }), list,
      make('form', { method: 'dialog' }, make('button', { textContent: word.close })));
    dialog.setAttribute('aria-label', word.keys);
    open(dialog);
  }

  let going = 0;
  const KEYS = {
    '/': () => (document.querySelector('[data-filter], input[type=search]') ?? document.querySelector('.chip'))?.focus(),
    '?': showKeys,
    j: () => step(1),
    k: () => step(-1),
    r: resend,
    g: () => (going = Date.now()),
  };

  document.addEventListener('keydown', (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector('dialog[open]')) return;
    if (target.closest('input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]')) return;
    const gone = Date.now() - going < 1500 && /^[a-z]$/.test(key) && page(key);
    going = 0;
    if (!gone && !Object.hasOwn(KEYS, key)) return;
    event.preventDefault();
    if (gone) gone.click();
    else KEYS[key]();
  });

  // --- Initial setup, also for content loaded later

  function dress(within) {
    // Not in table rows: the page that a row links to has the same button.
    all('.id, pre.code, [data-copy]', within).filter((one) => !one.closest('.rows')).forEach(addCopyButton);
    for (const button of all('[data-copies]', within)) {
      const name = button.textContent;
      button.hidden = false;
      button.addEventListener('click', async () => {
        await copy(document.querySelector(button.dataset.copies).textContent);
        button.textContent = said.textContent = word.copied;
        button.focus();
        setTimeout(() => (button.textContent = name, said.textContent = ''), 1500);
      });
    }
    if (root.dataset.clock === 'utc') return;
    all('[data-as]', within).forEach(toOwnClock);
    all('[data-zone]', within).forEach((element) => (element.textContent = word.zone));
  }

  // The embedding page has just requested the link, so no button press is needed.
  if (window.top !== window) document.querySelector('form[data-enter]')?.requestSubmit();

  // On a phone, the navigation scrolls.
  document.querySelector('.top nav [aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'center' });
  document.body.append(said);
  dress(document);
  keepUp();
  setInterval(keepUp, 1000);
  document.addEventListener('refreshed', (event) => (dress(event.detail), keepUp()));
})();
